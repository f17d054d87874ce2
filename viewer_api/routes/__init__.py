"""The rooms of the web app, one module each; every router brings its own doors."""

from viewer_api.routes import (
    account,
    auth,
    home,
    images,
    live,
    models,
    oidc,
    operations,
    studies,
    upload,
    users,
    worklist,
)

ROUTERS = tuple(
    room.router
    for room in (
        home, auth, oidc, account, upload, live, worklist, studies, images, models, operations,
        users,
    )
)  # fmt: skip
