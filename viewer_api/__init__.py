"""The web app: sign in, upload, see, understand, keep."""
