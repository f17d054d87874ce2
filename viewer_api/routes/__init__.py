"""The rooms of the web app, one module each; every router brings its own doors."""

from viewer_api.routes import account, auth, home, images, live, studies, upload, users

ROUTERS = (
    home.router,
    auth.router,
    account.router,
    upload.router,
    live.router,
    studies.router,
    images.router,
    users.router,
)
