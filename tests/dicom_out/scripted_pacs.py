"""A Storage SCP that misbehaves as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from tests.peers.process import free_port

Answer = Callable[[evt.Event, int], int]
"""Called with the event and the number of the C-STORE (from 1); returns the status."""


@dataclass
class Taken:
    """What a peer was offered."""

    port: int
    calling_ae_titles: list[str] = field(default_factory=list)
    instances: list[str] = field(default_factory=list)
    data_sets: list[bytes] = field(default_factory=list)
    message_ids: list[int] = field(default_factory=list)
    contexts: int = 0


def always(status: int) -> Answer:
    return lambda event, number: status


_ACCEPT = always(0x0000)


@contextmanager
def scripted_pacs(
    answer: Answer = _ACCEPT,
    *,
    sop_classes: Sequence[str] = (
        Comprehensive3DSRStorage,
        SecondaryCaptureImageStorage,
        Verification,
    ),
    require_called_ae_title: str = "",
    maximum_associations: int = 10,
) -> Iterator[Taken]:
    """Run the peer; its answers are read from `answer`."""
    taken = Taken(free_port())
    lock = threading.Lock()

    def on_store(event: evt.Event) -> int:
        with lock:
            taken.calling_ae_titles.append(event.assoc.requestor.ae_title)
            taken.contexts = len(event.assoc.requestor.requested_contexts)
            taken.instances.append(str(event.request.AffectedSOPInstanceUID))
            taken.message_ids.append(event.request.MessageID)
            taken.data_sets.append(event.request.DataSet.getvalue())
            number = len(taken.instances)
        return answer(event, number)

    ae = AE(ae_title="PACS")
    ae.require_called_aet = bool(require_called_ae_title)
    if require_called_ae_title:
        ae.ae_title = require_called_ae_title
    ae.maximum_associations = maximum_associations
    for sop_class in sop_classes:
        ae.add_supported_context(sop_class)
    server = ae.start_server(
        ("127.0.0.1", taken.port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    try:
        yield taken
    finally:
        server.shutdown()
