"""A real OHIF: the viewer as npm has it, with a private Orthanc behind it on one origin."""

from __future__ import annotations

import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from tests.peers.process import free_port, wait_until

VERSION = "3.13.2"
CONFIG = """window.config = {
  routerBasename: '/', extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 1, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  investigationalUseDialog: { option: 'never' }, showErrorDetails: 'always',
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'Orthanc', name: 'Orthanc',
      wadoUriRoot: '/wado', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true, relativeResolution: 'studies' },
    },
  }],
};
"""
_ISOLATED = {  # the viewer's workers share memory, which browsers allow only then
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def fetch(folder: Path) -> Path:
    """Return the folder of the built viewer, downloaded with npm if it isn't there yet."""
    dist = folder / f"ohif-{VERSION}" / "package" / "dist"
    if not (dist / "index.html").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"@ohif/app@{VERSION}"]
        name = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        with tarfile.open(folder / name) as archive:
            archive.extractall(folder / f"ohif-{VERSION}", filter="data")
        (folder / name).unlink()
    return dist


@contextmanager
def serving(dist: Path, dicomweb_url: str, **headers: str) -> Iterator[str]:
    """Serve the viewer and somebody's DICOMweb from one origin; yield its address.

    `headers` go along with each request for DICOMweb.
    """
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(_application(dist, dicomweb_url, headers), port=port, log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the viewer's server")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _application(dist: Path, dicomweb_url: str, added: dict[str, str]) -> Starlette:
    peer = httpx.AsyncClient(base_url=dicomweb_url, trust_env=False, timeout=120.0)

    async def dicomweb(request: Request) -> Response:
        # Orthanc's links carry the host of the request: the viewer must find them here
        headers = {"host": request.headers["host"], "accept": request.headers.get("accept", "*/*")}
        headers |= added
        answer = await peer.request(
            request.method,
            request.url.path,
            params=request.query_params.multi_items(),
            headers=headers,
        )
        kind = answer.headers.get("content-type", "application/octet-stream")
        return Response(answer.content, answer.status_code, {"content-type": kind, **_ISOLATED})

    async def file(request: Request) -> Response:
        path = (dist / request.path_params["path"]).resolve()
        if request.url.path == "/app-config.js":
            return Response(CONFIG, 200, _ISOLATED, "text/javascript")
        if not (path.is_file() and path.is_relative_to(dist.resolve())):
            path = dist / "index.html"
        return FileResponse(path, headers=_ISOLATED)

    return Starlette(
        routes=[
            Route("/dicom-web/{path:path}", dicomweb),
            Route("/wado", dicomweb),
            Route("/{path:path}", file),
        ]
    )
