"""C-STORE and C-ECHO SCU (PS3.4 Annexes A and B): objects go out unchanged, each gets a receipt.

Data sets are streamed from their files as they lie there, never decoded, so a retry sends the same
bytes. Only files that already have the transfer syntax a peer accepts can go this way; each SOP
class and transfer syntax is therefore proposed in a presentation context of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage
from pynetdicom import Association, _config
from pynetdicom.sop_class import Verification

from dicom_out.association import close_association, open_association
from dicom_out.destination import (
    CUT_OFF,
    NO_CONTEXT,
    NOT_DICOM,
    NOT_STORABLE,
    UNREADABLE,
    DeliveryReceipt,
    Destination,
    Outcome,
    Verdict,
    judge_status,
)

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
    uncompressed: _Item | None = None
    """the same object as every peer takes it"""

    @property
    def contexts(self) -> list[tuple[str, str]]:
        """The presentation contexts that it may need, the preferred one first."""
        return [self.context, *(self.uncompressed.contexts if self.uncompressed else ())]

    @property
    def context(self) -> tuple[str, str]:
        return self.sop_class_uid, self.transfer_syntax_uid


def send(
    paths: Iterable[Path],
    destination: Destination,
    *,
    calling_ae_title: str,
    uncompressed: Mapping[Path, Path] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[DeliveryReceipt]:
    """Send files, and all files below folders; return a receipt for each, in their order.

    Nothing that a peer, the network or a file does raises an error; it is in the receipts.

    Parameters
    ----------
    paths
        Part 10 files, whose bytes go out unchanged, and folders. What is no DICOM file is left out
        with the reason in its receipt.
    destination
        Where to; its ``calling_ae_title`` wins over the argument.
    calling_ae_title
        How to introduce ourselves.
    uncompressed
        For compressed files the same objects uncompressed, to be sent where the peer doesn't accept
        the compression; the receipt's ``path`` tells which of the two was.
    on_progress
        Called with the number of files done and of all files, after each file.
    """
    files = list(walk(paths))
    receipts: dict[int, DeliveryReceipt] = {}

    def note(index: int, receipt: DeliveryReceipt) -> None:
        receipts[index] = receipt
        if on_progress is not None:
            on_progress(len(receipts), len(files))

    items: list[tuple[int, _Item]] = []
    for index, path in enumerate(files):
        found = _inspect(path)
        if isinstance(found, _Item):
            plain = _inspect(uncompressed[path]) if uncompressed and path in uncompressed else None
            if isinstance(plain, _Item):
                found = replace(found, uncompressed=plain)
            items.append((index, found))
        else:
            note(index, _receipt(found, path))
    for batch in _batches(items):
        for index, receipt in _send_batch(batch, destination, calling_ae_title):
            note(index, receipt)
    return [receipts[index] for index in range(len(files))]


def echo(destination: Destination, *, calling_ae_title: str) -> DeliveryReceipt:
    """Ask whether a destination answers (C-ECHO, PS3.4 Annex A)."""
    established = open_association([(Verification, None)], destination, calling_ae_title)
    if isinstance(established, Verdict):
        return _receipt(established, None)
    try:
        status = established.send_c_echo().get("Status")
    except (RuntimeError, ValueError):  # aborted meanwhile; verification not accepted
        status = None
    close_association(established)
    if status == 0x0000:
        return _receipt(Verdict(Outcome.ACCEPTED, "ANSWERS", "Answers C-ECHO."), None, status)
    return _receipt(CUT_OFF if status is None else judge_status(status), None, status)


def walk(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files, and the files below folders by their names."""
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
        if len(contexts.union(item.contexts)) > MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append((index, item))
        contexts.update(item.contexts)
    if batch:
        yield batch


def _send_batch(
    batch: Sequence[tuple[int, _Item]], destination: Destination, calling_ae_title: str
) -> Iterator[tuple[int, DeliveryReceipt]]:
    contexts = dict.fromkeys(context for _, item in batch for context in item.contexts)
    established = open_association(list(contexts), destination, calling_ae_title)
    if isinstance(established, Verdict):
        for index, item in batch:
            yield index, _receipt(established, item)
        return
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in established.accepted_contexts
    }
    is_lost = False
    try:
        for number, (index, preferred) in enumerate(batch):
            item = preferred
            if item.context not in accepted and item.uncompressed is not None:
                item = item.uncompressed
            if item.context not in accepted:
                receipt = _receipt(NO_CONTEXT, item)
            elif is_lost:
                receipt = _receipt(CUT_OFF, item)
            else:
                receipt = _store(established, item, message_id=number % 65535 + 1)
            is_lost = is_lost or receipt.code == CUT_OFF.code
            yield index, receipt
    finally:
        close_association(established)


def _store(association: Association, item: _Item, *, message_id: int) -> DeliveryReceipt:
    if not (association.is_established and association.dul.is_alive()):
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
