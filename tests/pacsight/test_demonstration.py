"""What the demo leaves on disk."""

from __future__ import annotations

import io
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, generate_uid

from pacsight.demonstration import collect


def encode(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def report_object(study: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = ComprehensiveSRStorage, generate_uid()
    ds.StudyInstanceUID, ds.Modality, ds.InstanceNumber = study, "SR", 1
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def test_results_of_several_models_do_not_overwrite_each_other(tmp_path: Path) -> None:
    study = generate_uid()
    objects = [report_object(study) for _ in range(2)]
    decisions = [
        {"model": model, "results": [{"sop_instance_uid": item.SOPInstanceUID}]}
        for model, item in zip(("cxr-covid19", "cxr-pneumonia"), objects, strict=True)
    ]
    report = {"study_instance_uid": study, "revisions": [{"decisions": decisions}]}
    (outcome,) = collect([report], map(encode, objects), tmp_path)
    assert [path.read_bytes() for path in outcome.results] == [encode(item) for item in objects]
    assert "cxr-covid19" in outcome.results[0].name
    assert "cxr-pneumonia" in outcome.results[1].name
