"""The commands: each reads its arguments, calls one function below, prints. No logic lives here."""
