"""C-STORE and C-ECHO SCU (PS3.4 Annexes A and B): objects go out unchanged, each gets a receipt.

Data sets are streamed from their files as they lie there, never decoded, so a retry sends the same
bytes. Only files that already have the transfer syntax a peer accepts can go this way; each SOP
class and transfer syntax is therefore proposed in a presentation context of its own.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage
from pynetdicom import AE, Association, _config, build_context, evt
from pynetdicom.sop_class import Verification

from dicom_out.destination import (
    CUT_OFF,
    NO_ANSWER,
    NO_CONTEXT,
    NOT_DICOM,
    NOT_REACHED,
    NOT_STORABLE,
    UNREADABLE,
    DeliveryConfig,
    DeliveryReceipt,
    Destination,
    Outcome,
    Verdict,
    judge_status,
    next_delay_s,
    rejection,
)
from dicom_out.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = [
    "DeliveryConfig",
    "DeliveryReceipt",
    "Destination",
    "Outcome",
    "deliver",
    "echo",
    "next_delay_s",
    "send",
]

LOGGER = logging.getLogger(__name__)

MAX_CONTEXTS = 128
"""Presentation contexts in one association: odd ids from 1 to 255 (PS3.8 section 9.3.2.2)."""

# Send what the file holds, without decoding it. pynetdicom reads this at each C-STORE.
_config.STORE_SEND_CHUNKED_DATASET = True


@dataclass(frozen=True, slots=True)
class _Item:
    """A file that can be sent, by its file meta information."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @property
    def context(self) -> tuple[str, str]:
        return self.sop_class_uid, self.transfer_syntax_uid


def deliver(
    files: Sequence[Path], destination: Destination, *, calling_ae_title: str
) -> list[DeliveryReceipt]:
    """Send DICOM files in one association and return a receipt for each, in their order.

    Parameters
    ----------
    files
        Part 10 files; their bytes go out unchanged.
    destination
        Where to; its ``calling_ae_title`` wins over the argument.
    calling_ae_title
        How to introduce ourselves.

    Notes
    -----
    Nothing that a peer, the network or a file does raises an error; it is in the receipts.
    """
    return send(files, destination, calling_ae_title=calling_ae_title)


def send(
    paths: Iterable[Path],
    destination: Destination,
    *,
    calling_ae_title: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[DeliveryReceipt]:
    """Send files, and all files below folders; return a receipt for each, in their order.

    Parameters
    ----------
    paths
        Files and folders. What is no DICOM file is left out with the reason in its receipt.
    destination, calling_ae_title
        As for :func:`deliver`.
    on_progress
        Called with the number of files done and of all files, after each file.
    """
    files = list(_walk(paths))
    receipts: dict[int, DeliveryReceipt] = {}

    def note(index: int, receipt: DeliveryReceipt) -> None:
        receipts[index] = receipt
        if on_progress is not None:
            on_progress(len(receipts), len(files))

    items: list[tuple[int, _Item]] = []
    for index, path in enumerate(files):
        found = _inspect(path)
        if isinstance(found, _Item):
            items.append((index, found))
        else:
            note(index, _receipt(found, path))
    for batch in _batches(items):
        for index, receipt in _send_batch(batch, destination, calling_ae_title):
            note(index, receipt)
    return [receipts[index] for index in range(len(files))]


def echo(destination: Destination, *, calling_ae_title: str) -> DeliveryReceipt:
    """Ask whether a destination answers (C-ECHO, PS3.4 Annex A)."""
    established = _associate([(Verification, None)], destination, calling_ae_title)
    if isinstance(established, Verdict):
        return _receipt(established, None)
    try:
        status = established.send_c_echo().get("Status")
    except (RuntimeError, ValueError):  # aborted meanwhile; verification not accepted
        status = None
    _end(established)
    if status == 0x0000:
        return _receipt(Verdict(Outcome.ACCEPTED, "ANSWERS", "Answers C-ECHO."), None, status)
    return _receipt(CUT_OFF if status is None else judge_status(status), None, status)


def _walk(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(entry for entry in path.rglob("*") if entry.is_file())
        else:
            yield path


def _inspect(path: Path) -> _Item | Verdict:
    """Read the file meta information, or say why the file can't be sent."""
    try:
        meta = read_file_meta_info(path)
    except OSError:
        return UNREADABLE
    except (InvalidDicomError, ValueError, NotImplementedError, KeyError):
        return NOT_DICOM
    item = _Item(
        path,
        str(meta.get("MediaStorageSOPClassUID", "")),
        str(meta.get("MediaStorageSOPInstanceUID", "")),
        str(meta.get("TransferSyntaxUID", "")),
    )
    if item.sop_class_uid == MediaStorageDirectoryStorage:
        return NOT_STORABLE
    return item if all((*item.context, item.sop_instance_uid)) else NOT_DICOM


def _batches(items: Sequence[tuple[int, _Item]]) -> Iterator[list[tuple[int, _Item]]]:
    """Split into runs that need no more presentation contexts than an association holds."""
    batch: list[tuple[int, _Item]] = []
    contexts: set[tuple[str, str]] = set()
    for index, item in items:
        if item.context not in contexts and len(contexts) == MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append((index, item))
        contexts.add(item.context)
    if batch:
        yield batch


def _send_batch(
    batch: Sequence[tuple[int, _Item]], destination: Destination, calling_ae_title: str
) -> Iterator[tuple[int, DeliveryReceipt]]:
    contexts = dict.fromkeys(item.context for _, item in batch)
    established = _associate(list(contexts), destination, calling_ae_title)
    if isinstance(established, Verdict):
        for index, item in batch:
            yield index, _receipt(established, item)
        return
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in established.accepted_contexts
    }
    try:
        for number, (index, item) in enumerate(batch):
            if item.context in accepted:
                yield index, _store(established, item, message_id=number % 65535 + 1)
            else:
                yield index, _receipt(NO_CONTEXT, item)
    finally:
        _end(established)


def _store(association: Association, item: _Item, *, message_id: int) -> DeliveryReceipt:
    if not association.is_established:
        return _receipt(CUT_OFF, item)
    try:
        response = association.send_c_store(item.path, msg_id=message_id)
    except OSError:  # half a message is out, so nothing else can follow it
        association.abort()
        return _receipt(UNREADABLE, item)
    except RuntimeError:  # the association ended between the check above and the request
        return _receipt(CUT_OFF, item)
    status = response.get("Status")
    return _receipt(CUT_OFF if status is None else judge_status(status), item, status)


def _associate(
    contexts: Sequence[tuple[str, str | None]], destination: Destination, calling_ae_title: str
) -> Association | Verdict:
    """Return an established association, or why there is none."""
    ae = AE(ae_title=destination.calling_ae_title or calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = destination.timeout_s
    ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    opened = threading.Event()
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            contexts=[build_context(*context) for context in contexts],
            ae_title=destination.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, _on_open, [opened])],
        )
    except OSError:  # the name can't be resolved
        return NOT_REACHED
    if association.is_established:
        return association
    verdict = _why_not(association) if opened.is_set() else NOT_REACHED
    LOGGER.info("No association with %s: %s", destination.name, verdict.code)
    return verdict


def _why_not(association: Association) -> Verdict:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        return rejection(answer.result, answer.reason_str)
    if answer is not None:  # accepted, but not one presentation context
        return NO_CONTEXT
    return NO_ANSWER


def _on_open(event: evt.Event, opened: threading.Event) -> None:
    """Switch Nagle's algorithm off: dcmtk's delayed acknowledgement costs 40 ms per object."""
    opened.set()
    stream = event.assoc.dul.socket.socket
    if stream is not None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _end(association: Association) -> None:
    if association.is_established:
        association.release()


def _receipt(
    verdict: Verdict, about: _Item | Path | None, status: int | None = None
) -> DeliveryReceipt:
    item = about if isinstance(about, _Item) else None
    return DeliveryReceipt(
        sop_instance_uid=item.sop_instance_uid if item else "",
        outcome=verdict.outcome,
        code=verdict.code,
        message=verdict.message,
        status=status,
        is_retryable=verdict.is_retryable,
        path=item.path if item else about if isinstance(about, Path) else None,
    )
