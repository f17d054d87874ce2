"""The rooms of the web app, one module each; every router brings its own doors."""

from viewer_api.routes import account, auth, home, users

ROUTERS = (home.router, auth.router, account.router, users.router)
