"""What every answer carries so that browsers keep strangers out."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from viewer_api.access import SAFE_METHODS
from viewer_api.config import WebConfig
from viewer_api.guests import DICOMWEB, guest_headers

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
FORM_BYTES = 1 << 18
"""Most bytes of a request that is no file. Forms are parsed before anybody is asked who he is."""
PROBES = ("/healthz", "/readyz")
"""Orchestrators ask by the machine's address, not by the name that browsers know."""
HSTS = "max-age=31536000; includeSubDomains"
_ALWAYS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class GuardedApp:
    """Adds the headers, and refuses changes that come from another site or for another host.

    What an answer failed of ends here: :mod:`viewer_api.app` has logged it without its message,
    and the server would log it with one, which may hold a patient's data.
    """

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._is_secure = config.is_secure
        self._guests = frozenset(config.dicomweb_origins)
        self._host = urlsplit(config.public_url).netloc if config.public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        guest = guest_headers(self._guests, scope["path"], headers)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(guest)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                # Pages hold patients' data: no cache but the browser's own, for this visit.
                headers.setdefault("cache-control", "no-store")
                if self._is_secure:
                    headers.setdefault("strict-transport-security", HSTS)
            await send(message)

        if guest and scope["method"] == "OPTIONS":
            await Response(status_code=204)(scope, receive, send_with_headers)
            return
        if scope["path"] not in PROBES and self._is_foreign(scope["method"], headers, guest):
            refusal = PlainTextResponse("This request comes from another site.", 403)
            await refusal(scope, receive, send_with_headers)
            return
        if not _counts_itself(scope["method"], scope["path"], headers):
            receive = _limited(receive)
        with contextlib.suppress(Exception):
            await self._app(scope, receive, send_with_headers)

    def _is_foreign(self, method: str, headers: Headers, guest: dict[str, str]) -> bool:
        host = headers.get("host", "")
        if self._host is not None and host != self._host:
            return True
        if method in SAFE_METHODS or guest:
            return False
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return True
        return headers.get("sec-fetch-site") in ("cross-site", "same-site")


def _counts_itself(method: str, path: str, headers: Headers) -> bool:
    """Tell whether a body is a file, or DICOM instances, whose room counts what comes."""
    kind = headers.get("content-type", "").lower()
    is_dicom = kind.startswith(("multipart/related", "application/dicom"))
    return method == "PUT" or (method == "POST" and path.startswith(DICOMWEB) and is_dicom)


def _limited(receive: Receive) -> Receive:
    """Return a way to receive a body that ends with an error when it grows too long."""
    size = 0

    async def receive_some() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > FORM_BYTES:
            raise HTTPException(413)
        return message

    return receive_some
