"""A drawn study and its result bundle to a destination, and what a reader should see of it there.

No model is asked: the lungs of the drawing are known, so that whoever looks can tell a shifted,
mirrored or missing region from a right one.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from scipy import ndimage

from dicom_out.delivery import send
from dicom_out.destination import DeliveryReceipt, Destination
from dicom_out.model_result import ModelDescription, ResultObject, VolumeResult
from dicom_out.profile import Profile
from dicom_out.results import encode_volume
from ledger.domain import Code, ModelIdentity, Prediction, Segment
from pacsight import __version__
from pacsight.bundles import address
from pacsight.samples import SamplePatient, ct_series
from pacsight.settings import Settings

SLICES, SIDE = 12, 256
FIRST, LAST = 3, 9
"""The slices with regions, from 1: a viewer that moves them along the stack is found out."""
PATIENT = SamplePatient("Selftest^Pacsight", "PACSIGHT-SELFTEST")
MODEL = ModelDescription(
    identity=ModelIdentity("selftest", __version__, "0" * 64, "Self-test of a destination"),
    intended_use="To see what a viewer shows of results; the study is drawn by a program",
    research_statement="For tests only; not a medical device",
)
AIR_HU = -500
_LUNGS = (Code("3341006", "SCT", "Right lung"), Code("44029006", "SCT", "Left lung"))

SOURCE = "source"
EXPECTED = {
    SOURCE: f"Series 'Axial 5 mm': {SLICES} CT slices of a drawn chest.",
    "sr": "Report with 'Right lung' and 'Left lung', slices and ml each, 'not reviewed'. A viewer "
    "that draws regions: an outline of each lung on the slice where it is largest.",
    "seg": f"On slices {FIRST} to {LAST} and no others: two coloured regions that fill the lungs, "
    "'Right lung' orange and on the left of the picture, 'Left lung' blue and on its right.",
    "sc": "Colour picture of slices with both lungs coloured, names and 'AI result - not "
    "reviewed' on a band that covers no anatomy.",
    "pdf": "The report on paper: patient, findings, pictures, limits.",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One kind of object: how many, what the reader should see, and what the destination said."""

    kind: str
    count: int
    expected: str
    answers: tuple[DeliveryReceipt, ...]
    compressed: int = 0
    """how many went in the compressed transfer syntax of the profile"""

    @property
    def is_delivered(self) -> bool:
        """Whether the destination has all of them."""
        return all(answer.is_delivered for answer in self.answers)

    @property
    def answer(self) -> str:
        """The first refusal, or that they are there."""
        refused = [item for item in self.answers if not item.is_delivered]
        if refused:
            return f"{refused[0].code}: {refused[0].message}"
        how = f", {self.compressed} compressed" if self.compressed else ""
        return f"stored{how}"


def run_selftest(settings: Settings, destination: Destination, now: datetime) -> list[Shown]:
    """Send a new drawn study with the bundle of the destination's profile; say what came of it."""
    slices = ct_series(
        int(now.timestamp()), slices=SLICES, rows=SIDE, columns=SIDE, patient=PATIENT
    )
    for ds in slices:
        ds.StudyDescription = "Pacsight self-test"
        ds.StudyDate, ds.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    alone = settings.model_copy(update={"destinations": (destination,)})
    objects = address(alone, bundle_of(slices, now))
    with tempfile.TemporaryDirectory() as name:
        folder, plain = Path(name), {}
        kinds = {_write_source(folder, number, ds): SOURCE for number, ds in enumerate(slices)}
        for one in objects:
            if destination.name not in one.destinations:
                continue  # of the pages of the web app only
            uncompressed = _write(folder / "plain", one.item)
            encoded = one.encodings.get(one.destinations[destination.name])
            path = uncompressed if encoded is None else _write(folder / "encoded", encoded)
            plain[path] = uncompressed
            kinds[path] = one.item.kind
        receipts = send(
            list(kinds),
            destination,
            calling_ae_title=settings.scp.ae_title,
            uncompressed={path: other for path, other in plain.items() if path != other},
        )
    return _shown(list(kinds.values()), receipts)


def bundle_of(
    slices: Sequence[FileDataset], now: datetime
) -> Callable[[Profile], list[ResultObject]]:
    """Return what writes the results about the slices of the drawing."""
    result = lungs_of(slices)
    seed = f"selftest/{slices[0].StudyInstanceUID}"
    return lambda profile: encode_volume(result, model=MODEL, seed=seed, now=now, profile=profile)


def lungs_of(slices: Sequence[FileDataset]) -> VolumeResult:
    """Return the two lungs of the drawing as what a model would say."""
    values = np.stack([ds.pixel_array.astype(np.int16) - 1024 for ds in slices])
    inside = np.stack([_enclosed(plane < AIR_HU) for plane in values])
    inside[: FIRST - 1] = inside[LAST:] = False
    halves = np.zeros((2, *inside.shape), bool)
    halves[0, ..., : SIDE // 2] = inside[..., : SIDE // 2]  # the patient's right is on the left
    halves[1, ..., SIDE // 2 :] = inside[..., SIDE // 2 :]
    spacing = slices[0].PixelSpacing
    voxel_ml = float(spacing[0]) * float(spacing[1]) * float(slices[0].SliceThickness) / 1000
    prediction = Prediction(
        model=MODEL.identity,
        sop_instance_uids=tuple(str(ds.SOPInstanceUID) for ds in slices),
        findings=(),
        heatmap=None,
        seconds=0.0,
        segments=tuple(
            Segment(code.meaning, code, half, float(half.sum()) * voxel_ml)
            for code, half in zip(_LUNGS, halves, strict=True)
        ),
    )
    display = np.clip((values.astype(np.float32) + 1000) / 1400 * 255, 0, 255).astype(np.uint8)
    return VolumeResult(prediction, tuple(slices), display)


def _enclosed(air: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the air that doesn't reach the border of the picture."""
    labels, _ = ndimage.label(air)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(air & ~np.isin(labels, border))


def _write_source(folder: Path, number: int, ds: FileDataset) -> Path:
    path = folder / f"{number:04}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def _write(folder: Path, item: ResultObject) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{item.sop_instance_uid}.dcm"
    path.write_bytes(item.data)
    return path


def _shown(kinds: Sequence[str], receipts: Sequence[DeliveryReceipt]) -> list[Shown]:
    compressed = Counter(
        kind
        for kind, receipt in zip(kinds, receipts, strict=True)
        if receipt.path is not None and receipt.path.parent.name == "encoded"
    )
    return [
        Shown(
            kind,
            count,
            EXPECTED[kind],
            tuple(receipt for one, receipt in zip(kinds, receipts, strict=True) if one == kind),
            compressed[kind],
        )
        for kind, count in Counter(kinds).items()
    ]
