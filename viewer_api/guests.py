"""Viewers on other sites (CORS): only those that the settings name, and only DICOMweb."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers

DICOMWEB = "/dicom-web/"
PREFLIGHT_S = 600


def guest_headers(origins: Collection[str], path: str, headers: Headers) -> dict[str, str]:
    """Return what tells a browser that another site may read the answer; nothing if it may not.

    Cookies are never allowed along: such a viewer shows an API token.
    """
    origin = headers.get("origin", "")
    if origin not in origins or not path.startswith(DICOMWEB):
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "Authorization, Accept, Content-Type",
        "access-control-expose-headers": "Content-Location, Content-Type, Warning",
        "access-control-max-age": str(PREFLIGHT_S),
        "cross-origin-resource-policy": "cross-origin",
        "vary": "Origin",
    }
