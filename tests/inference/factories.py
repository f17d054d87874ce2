"""Generated manifests, model folders, headers and DICOM images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from inference.manifest import Manifest, parse_manifest
from inference.networks import build_manifest_network
from inference.weights import save_weights
from ledger.domain import InstanceFacts

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"


def manifest_data(**changes: Any) -> dict[str, Any]:
    """Return the content of a valid manifest of a small two-finding model."""
    data: dict[str, Any] = {
        "id": "toy",
        "version": "1.0.0",
        "name": "Toy model",
        "pipeline": "classification",
        "intended_use": "Tests only",
        "research_statement": "For research use only; not a medical device",
        "content_qualification": "RESEARCH",
        "licence": "Apache-2.0",
        "training_data": [{"name": "none", "licence": "none"}],
        "accepts": [
            {
                "modality": ["CR", "DX"],
                "sop_class": [CR, DX],
                "photometric_interpretation": ["MONOCHROME1", "MONOCHROME2"],
                "body_part_examined": ["CHEST", "THORAX", ""],
                "view_position": ["PA", "AP", ""],
                "excluded_image_types": ["LOCALIZER", "DERIVED", "MIP"],
                "excluded_description_words": ["lat", "lateral"],
                "minimum_rows": 32,
                "minimum_columns": 32,
            },
            {
                "modality": ["DX", "CR", "OT"],
                "sop_class": [SECONDARY_CAPTURE],
                "body_part_examined": ["CHEST"],
                "minimum_rows": 32,
                "minimum_columns": 32,
            },
        ],
        "input": {
            "shape": [3, 64, 64],
            "color": "gray",
            "resize": "letterbox",
            "mean": [0.5],
            "std": [0.25],
        },
        "network": {"name": "mobilenetv2", "channels": 2, "args": {"padding": "same"}},
        "weights": {"file": "weights.safetensors", "sha256": "0" * 64},
        "explain": {"method": "gradcam", "layer": "bn2"},
        "activation": "sigmoid",
        "calibration": {"temperature": 2.0, "bias": [0.0, 0.5]},
        "outputs": [
            {
                "label": "Pneumonia",
                "channel": 0,
                "threshold": 0.5,
                "concept": {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"},
            },
            {
                "label": "Effusion",
                "channel": 1,
                "threshold": 0.5,
                "concept": {"scheme": "SCT", "value": "60046008", "meaning": "Pleural effusion"},
            },
        ],
    }
    return data | changes


def manifest(**changes: Any) -> Manifest:
    return parse_manifest(manifest_data(**changes), "toy")


def write_model(root: Path, **changes: Any) -> Path:
    """Write a model folder with random but lively weights, always the same ones."""
    import torch

    data = manifest_data(**changes)
    folder = root / data["id"]
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    network = build_manifest_network(parse_manifest(data, data["id"]))
    for module in network.modules():  # statistics of other than 0 and 1, so that they matter
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.normal_(0.0, 0.2)
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    network.get_classifier().weight.data.mul_(0.05)  # logits of a few units, as trained ones are
    data["weights"]["sha256"] = save_weights(network, folder / "weights.safetensors")
    write_manifest(folder, data)
    return folder


def write_manifest(folder: Path, data: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.yaml").write_text(yaml.safe_dump(data, sort_keys=False))


def facts(**changes: Any) -> InstanceFacts:
    """Return the header of a frontal chest radiograph that the toy model takes."""
    values: dict[str, Any] = {
        "study_instance_uid": "1.2.1",
        "series_instance_uid": "1.2.1.1",
        "sop_instance_uid": "1.2.1.1.1",
        "sop_class_uid": DX,
        "transfer_syntax_uid": str(ExplicitVRLittleEndian),
        "modality": "DX",
        "body_part_examined": "CHEST",
        "view_position": "PA",
        "image_type": ("ORIGINAL", "PRIMARY"),
        "photometric_interpretation": "MONOCHROME2",
        "rows": 512,
        "columns": 400,
        "has_pixel_data": True,
    }
    return InstanceFacts(**values | changes)


def dicom(pixels: np.ndarray | None, **changes: Any) -> Dataset:
    """Return a DX image of `pixels`: [rows, columns] or RGB [rows, columns, 3]."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = DX
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = "DX"
    ds.PatientName, ds.PatientID = "Test^Anna", "42"
    if pixels is not None:
        is_color = pixels.ndim == 3 and pixels.shape[-1] == 3
        ds.Rows, ds.Columns = pixels.shape[-3:-1] if is_color else pixels.shape[-2:]
        ds.SamplesPerPixel = 3 if is_color else 1
        ds.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
        if is_color:
            ds.PlanarConfiguration = 0
        ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        ds.PixelData = pixels.tobytes()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    if pixels is not None:
        ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    return ds


def stream(ds: Dataset) -> io.BytesIO:
    """Return the data set as an open Part 10 file."""
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    file.seek(0)
    return file
