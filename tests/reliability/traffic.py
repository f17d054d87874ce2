"""Modalities that send studies and send them again until they are acknowledged."""

from __future__ import annotations

import io
import itertools
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import FileDataset

from dicom_out.delivery import send
from dicom_out.destination import Destination
from dicom_out.uids import derive_uid
from pacsight.samples import chest_radiograph

KINDS = ("radiograph", "radiograph", "radiograph", "radiograph", "mr", "broken")
PAUSE_S = 0.1


@dataclass(slots=True)
class Sent:
    """One acknowledged object."""

    study_instance_uid: str
    sop_instance_uid: str
    kind: str


@dataclass
class Traffic:
    """`senders` threads, each a modality; a study is one small image, now and then sent twice.

    Attributes
    ----------
    acknowledged
        What got Success.
    """

    to: Destination
    folder: Path
    seed: int
    senders: int = 2
    most_waiting: int = 12
    """pause while so many studies are under way; see :meth:`note_settled`"""
    acknowledged: list[Sent] = field(default_factory=list)
    refused: int = 0
    _settled: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._template = chest_radiograph(self.seed, consolidation=False, rows=96, columns=80)
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send_on, args=(number,), daemon=True)
            for number in range(self.senders)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send nothing new; return when all that was begun is acknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def note_settled(self, count: int) -> None:
        self._settled = count

    def _send_on(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        while not self._stop.is_set():
            if len(self.acknowledged) - self._settled > self.most_waiting:
                self._stop.wait(PAUSE_S)
                continue
            sent, path = self._make(chance)
            self._push(path, f"SENDER{number}")
            if chance.random() < 0.1:
                self._push(path, f"SENDER{number}")
            with self._lock:
                self.acknowledged.append(sent)
            path.unlink()

    def _push(self, path: Path, calling_ae_title: str) -> None:
        """Send until it is acknowledged, as a modality does."""
        while True:
            (receipt,) = send([path], self.to, calling_ae_title=calling_ae_title)
            if receipt.status == 0x0000:
                return
            self.refused += 1
            self._stop.wait(PAUSE_S)
            if self._stop.is_set():
                threading.Event().wait(PAUSE_S)

    def _make(self, chance: random.Random) -> tuple[Sent, Path]:
        with self._lock:
            number = next(self._numbers)
            dataset = _copy(self._template)
        kind = chance.choice(KINDS)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, keyword, derive_uid(f"{self.seed}/{number}/{keyword}"))
        dataset.PatientID = f"TEST-{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        sent = Sent(str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID), kind)
        if kind == "mr":  # no model takes it
            dataset.Modality = "MR"
        if kind == "broken":  # not the instance that the C-STORE names
            dataset.SOPInstanceUID = derive_uid(f"{self.seed}/{number}/other")
        path = self.folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=False)
        return sent, path


def _copy(dataset: FileDataset) -> FileDataset:
    from pydicom import dcmread

    data = io.BytesIO()
    dataset.save_as(data)
    data.seek(0)
    return dcmread(data)
