"""A receiver that counts what it gets and can be told to refuse: an AI service or a PACS."""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from tests.peers.process import free_port


class StorageScp:
    """Takes every C-STORE with `status` and keeps the SOP Instance UIDs in the order they came."""

    def __init__(self, ae_title: str = "PACSIGHT", port: int | None = None) -> None:
        self.ae_title = ae_title
        self.port = port or free_port()
        self.status = 0x0000
        self._lock = threading.Lock()
        self._stored: list[str] = []
        self._attempts = 0
        self._server: Any = None

    @property
    def stored(self) -> list[str]:
        with self._lock:
            return list(self._stored)

    @property
    def attempts(self) -> int:
        with self._lock:
            return self._attempts

    def start(self) -> None:
        ae = AE(ae_title=self.ae_title)
        for context in (*StoragePresentationContexts, Verification):
            ae.add_supported_context(getattr(context, "abstract_syntax", context))
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _store(self, event: Any) -> int:
        with self._lock:
            self._attempts += 1
            if self.status == 0x0000:
                self._stored.append(str(event.request.AffectedSOPInstanceUID))
        return self.status

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None
