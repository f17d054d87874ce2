"""Studies to look at, with the bundles that go along with them."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import EnhancedMRImageStorage

from dicom_out.delivery import send
from dicom_out.destination import Destination
from dicom_out.model_result import ImageResult, ModelDescription, ResultObject, VolumeResult
from dicom_out.profile import Profile
from dicom_out.results import encode_results, encode_volume
from dicom_out.uids import derive_uid
from ledger.domain import Box, Code, Finding, Heatmap, ModelIdentity, Prediction, Segment
from pacsight.samples import chest_radiograph, ct_series
from pacsight.selftest import MODEL, PATIENT, SIDE, SLICES, lungs_of

RADIOGRAPH_MODEL = ModelDescription(
    ModelIdentity("drawn", "1.0.0", "0" * 64, "Drawn regions"), "To look at", "For tests only"
)
OBLIQUE = np.array([[0.96, 0.0, -0.28], [0.07, 0.966, 0.25]])
"""Directions of rows and columns: turned round two axes."""


@dataclass(frozen=True)
class Study:
    """Source images, and what was written about them."""

    sources: Sequence[FileDataset]
    results: Sequence[ResultObject]

    def send(self, destination: Destination) -> None:
        """Send all of it."""
        with tempfile.TemporaryDirectory() as name:
            for number, ds in enumerate(self.sources):
                ds.save_as(Path(name) / f"source-{number:03}.dcm", enforce_file_format=True)
            for item in self.results:
                (Path(name) / f"{item.kind}-{item.sop_instance_uid}.dcm").write_bytes(item.data)
            receipts = send([Path(name)], destination, calling_ae_title="PACSIGHT")
        refused = [receipt.message for receipt in receipts if not receipt.is_delivered]
        if refused:
            raise SystemExit(refused[0])


def enhanced_mr(profile: Profile) -> Study:
    """The self-test's lungs as one oblique enhanced MR, its frames in reverse order."""
    now = datetime.now(UTC)
    slices = ct_series(11, slices=SLICES, rows=SIDE, columns=SIDE, patient=PATIENT)
    lungs = lungs_of(slices)
    frames = tuple(range(SLICES, 0, -1))
    ds = _multi_frame(slices)
    result = VolumeResult(
        replace(lungs.prediction, sop_instance_uids=(str(ds.SOPInstanceUID),) * SLICES),
        (ds,) * SLICES,
        lungs.display,
        frames,
    )
    seed = f"viewers/{ds.StudyInstanceUID}"
    written = encode_volume(result, model=MODEL, seed=seed, now=now, profile=profile)
    return Study([ds], written)


def _multi_frame(slices: Sequence[FileDataset]) -> FileDataset:
    ds = copy.deepcopy(slices[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = (
        derive_uid("viewers", "enhanced", word) for word in ("study", "series", "object", "frame")
    )
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Modality, ds.SeriesDescription, ds.InstanceNumber = "MR", "Enhanced, oblique", 1
    ds.StudyDescription = "Enhanced MR"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    ds.NumberOfFrames = len(slices)
    normal = np.cross(*_unit())
    groups = []
    for number in range(len(slices), 0, -1):
        position, content, group = Dataset(), Dataset(), Dataset()
        corner = np.array([-170.0, -150.0, 40.0]) + normal * 5.0 * (number - 1)
        position.ImagePositionPatient = [f"{value:.6f}" for value in corner]
        content.StackID, content.InStackPositionNumber = "1", number
        content.DimensionIndexValues = [1, number]
        group.PlanePositionSequence = ItemSequence([position])
        group.FrameContentSequence = ItemSequence([content])
        groups.append(group)
    measures, orientation, values, window, shared = (Dataset() for _ in range(5))
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, 5.0
    orientation.ImageOrientationPatient = [f"{value:.6f}" for value in _unit().ravel()]
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = "-1024", "1", "US"
    window.WindowCenter, window.WindowWidth = "40", "400"
    shared.PixelMeasuresSequence = ItemSequence([measures])
    shared.PlaneOrientationSequence = ItemSequence([orientation])
    shared.PixelValueTransformationSequence = ItemSequence([values])
    shared.FrameVOILUTSequence = ItemSequence([window])
    ds.SharedFunctionalGroupsSequence = ItemSequence([shared])
    ds.PerFrameFunctionalGroupsSequence = ItemSequence(groups)
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
        "RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth", "KVP",
    ):  # fmt: skip
        if keyword in ds:
            del ds[keyword]
    ds.PixelData = b"".join(one.PixelData for one in reversed(slices))
    return ds


def _unit() -> np.ndarray:
    """Return the directions, at right angles and of length 1."""
    row = OBLIQUE[0] / np.linalg.norm(OBLIQUE[0])
    column = OBLIQUE[1] - row * (row @ OBLIQUE[1])
    return np.array([row, column / np.linalg.norm(column)])


def radiograph(profile: Profile) -> Study:
    """A drawn chest radiograph with a box, an outline and a heatmap's hot region."""
    ds = chest_radiograph(5, consolidation=True, patient=PATIENT)
    y, x = np.mgrid[: ds.Rows, : ds.Columns]
    spot = np.hypot((y + 0.5) / ds.Rows - 0.6, (x + 0.5) / ds.Columns - 0.3)
    heart = np.hypot((y - 620) / 180, (x - 460) / 150) < 1
    grey = ds.pixel_array.astype(np.float32)
    display = np.clip(grey / grey.max() * 255, 0, 255).astype(np.uint8)
    findings = (Finding("opacity", Code("95436008", "SCT", "Lung consolidation"), 0.91, 0.5),)
    mass, outline = Code("4147007", "SCT", "Mass"), Code("80891009", "SCT", "Heart")
    hot = np.exp(-((spot / 0.15) ** 2)).astype(np.float32)
    answers = (
        {"findings": findings, "heatmap": Heatmap(hot, "opacity", "features.18")},
        {
            "boxes": (Box("mass", mass, 0.88, 0.5, 520.0, 180.0, 690.0, 360.0),),
            "segments": (Segment("heart", outline, heart),),
        },
    )
    written = []
    for number, answer in enumerate(answers):
        prediction = Prediction(
            model=RADIOGRAPH_MODEL.identity,
            sop_instance_uids=(str(ds.SOPInstanceUID),),
            seconds=0.0,
            **{"findings": (), "heatmap": None, **answer},
        )
        written += encode_results(
            [ImageResult(prediction, ds, display)],
            model=RADIOGRAPH_MODEL,
            seed=f"viewers/{number}/{ds.StudyInstanceUID}",
            now=datetime.now(UTC),
            profile=profile,
        )
    return Study([ds], written)
