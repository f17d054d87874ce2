"""The rooms of the web app, one module each; every router brings its own doors."""

from viewer_api.routes import (
    account,
    api,
    auth,
    dicomweb_retrieve,
    dicomweb_search,
    dicomweb_store,
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
        users, dicomweb_search, dicomweb_retrieve, dicomweb_store, api,
    )
)  # fmt: skip
