"""Sources, predictions and results for the tests of the writers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from dicom_out.model_result import ImageResult, ModelDescription, ResultObject
from dicom_out.profile import Profile
from dicom_out.results import encode_results
from ledger.domain import Code, Finding, Heatmap, ModelIdentity, Prediction
from pacsight.samples import SamplePatient, chest_radiograph

NOW = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=timezone(timedelta(hours=1)))
DIGEST = "9f2c" * 16
MODEL = ModelDescription(
    identity=ModelIdentity("cxr-pneumonia", "1.2.3", DIGEST, "Pneumonia on chest radiographs"),
    intended_use="Second look at frontal chest radiographs; not for primary diagnosis",
    research_statement="For research use only; not a medical device",
    licence="CC-BY-4.0",
)
WHOLE = Profile(name="whole", pdf=True)
"""Everything that a bundle can hold."""
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")


def finding(probability: float = 0.873, threshold: float = 0.42) -> Finding:
    return Finding("pneumonia", PNEUMONIA, probability, threshold)


def hot_spot(rows: int, columns: int) -> NDArray[np.float32]:
    """A round spot in the left half, [rows, columns] in [0, 1]."""
    v, u = np.mgrid[:rows, :columns]
    distance = np.hypot((v + 0.5) / rows - 0.6, (u + 0.5) / columns - 0.3)
    return np.exp(-((distance / 0.2) ** 2)).astype(np.float32)


def source(
    *,
    modality: str = "DX",
    photometric: str = "MONOCHROME2",
    rows: int = 96,
    columns: int = 80,
    patient: SamplePatient | None = None,
    seed: int = 7,
) -> FileDataset:
    return chest_radiograph(
        seed,
        consolidation=True,
        rows=rows,
        columns=columns,
        modality=modality,  # type: ignore[arg-type]  # parametrised as str
        photometric=photometric,  # type: ignore[arg-type]  # parametrised as str
        patient=patient,
    )


def image_result(
    ds: Dataset, findings: Sequence[Finding] | None = None, *, with_heatmap: bool = True
) -> ImageResult:
    """What a model could have said about a source; its display stays plain grey."""
    rows, columns = ds.Rows, ds.Columns
    shape = (rows, columns, 3) if ds.SamplesPerPixel == 3 else (rows, columns)
    heatmap = Heatmap(hot_spot(rows, columns), "pneumonia", "features.18")
    return ImageResult(
        prediction=Prediction(
            model=MODEL.identity,
            sop_instance_uids=(str(ds.SOPInstanceUID),),
            findings=tuple(findings or [finding()]),
            heatmap=heatmap if with_heatmap else None,
            seconds=0.1,
        ),
        source=ds,
        display=np.full(shape, 77, dtype=np.uint8),
    )


def encode(*sources: Dataset, seed: str = "study/1/model") -> list[ResultObject]:
    results = [image_result(ds) for ds in sources]
    return encode_results(results, model=MODEL, seed=seed, now=NOW, profile=WHOLE)


def read(item: ResultObject) -> FileDataset:
    return pydicom.dcmread(io.BytesIO(item.data))


def as_received(ds: FileDataset) -> FileDataset:
    """Send a data set through bytes, as it would come out of the spool."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))
