"""Analysis without a server: files in, findings, pictures, masks and DICOM results out.

The same reading, routing, inference and encoding as the service's stages, in memory.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_out.model_result import ImageResult, ResultObject, VolumeResult
from dicom_out.picture import picture_to_dicom
from dicom_out.results import encode_results, encode_volume
from dicom_out.volume import volume_to_dicom
from inference.errors import InferenceError, WrongSourceError
from inference.model_server import ModelServer
from inference.nifti import read_nifti, write_nifti
from inference.reading import read_image
from inference.registry import ModelPackage, Registry
from inference.routing import route
from inference.source_image import SourceImage
from inference.volume import Volume, read_series
from ledger.domain import ModelIdentity, Prediction, Refusal, RoutingDecision
from ledger.errors import PacsightError
from ledger.facts import read_facts
from ledger.slices import images_left_out
from pacsight.bundles import SHOWN
from pacsight.local_studies import LocalStudy, as_chosen
from pacsight.model_description import describe_model


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one model says about one study; or why it says nothing."""

    study: LocalStudy
    model: ModelIdentity | None
    refusal: Refusal | None
    predictions: tuple[Prediction, ...] = ()
    results: tuple[Path, ...] = ()
    heatmaps: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    """One for each segment of each prediction, in order: PNG, or NIfTI for a series."""
    seconds: float = 0.0


def analyze_study(
    study: LocalStudy,
    registry: Registry,
    models: ModelServer,
    *,
    chosen: str | None,
    out: Path,
    now: datetime,
) -> Iterator[Analysis]:
    """Yield what each model says about a study; write pictures, masks and DICOM results into `out`.

    Parameters
    ----------
    chosen
        Id of the only model to ask; an upload needs one, because it says nothing of its kind.
    """
    if study.refusal is not None:
        yield Analysis(study, None, study.refusal)
        return
    packages = [item for item in registry.models if chosen in {None, item.identity.model_id}]
    for package in packages:
        asked = as_chosen(study, package.manifest) if study.is_upload and chosen else study
        (decision,) = route(asked.facts, [package.manifest])
        if decision.refusal is not None:
            yield Analysis(study, decision.model, decision.refusal)
            continue
        folder = out / study.folder_name / package.identity.model_id
        folder.mkdir(parents=True, exist_ok=True)
        analyze = _analyze_series if package.manifest.input.unit == "series" else _analyze_images
        try:
            started = time.perf_counter()
            found = analyze(study, package, decision, models, folder, now)
            yield replace(found, seconds=time.perf_counter() - started)
        except PacsightError as error:
            yield Analysis(study, decision.model, Refusal(error.code, str(error)))


def _analyze_images(
    study: LocalStudy,
    package: ModelPackage,
    decision: RoutingDecision,
    models: ModelServer,
    folder: Path,
    now: datetime,
) -> Analysis:
    if study.is_nifti:
        raise WrongSourceError(
            f"Model {package.identity.model_id!r} takes single images; this is a volume."
        )
    if package.manifest.looks_through(len(decision.sop_instance_uids)):
        return _analyze_slices(study, package, decision, models, folder, now)
    results: list[ImageResult] = []
    masks: list[Path] = []
    refused: InferenceError | None = None
    for uid in decision.sop_instance_uids:
        try:
            image, header = _source((study.files or {})[uid], folder, now)
            prediction = models.predict(package.identity.model_id, image)
        except InferenceError as error:  # the others are still worth an answer
            refused = refused or error
            continue
        results.append(ImageResult(prediction, header, image.display))
        for segment in prediction.segments:
            masks.append(folder / f"mask-{len(masks) + 1}-{_file_name(segment.label)}.png")
            Image.fromarray(segment.mask.astype(np.uint8) * 255).save(masks[-1])
    if not results and refused is not None:
        raise refused
    return _images_written(study, package, decision, results, masks, folder, now)


def _analyze_slices(
    study: LocalStudy,
    package: ModelPackage,
    decision: RoutingDecision,
    models: ModelServer,
    folder: Path,
    now: datetime,
) -> Analysis:
    """Look through all slices of a series; the results are about the key slices."""
    files = study.files or {}
    opened = [partial(read_image, files[uid]) for uid in decision.sop_instance_uids]
    results = []
    for prediction in models.predict_slices(package.identity.model_id, opened):
        image, header = _source(files[prediction.sop_instance_uid], folder, now)
        results.append(ImageResult(prediction, header, image.display))
    return _images_written(study, package, decision, results, [], folder, now)


def _images_written(
    study: LocalStudy,
    package: ModelPackage,
    decision: RoutingDecision,
    results: Sequence[ImageResult],
    masks: list[Path],
    folder: Path,
    now: datetime,
) -> Analysis:
    seed = f"{results[0].source.StudyInstanceUID}/{package.identity.digest}"
    objects = encode_results(
        results, model=describe_model(package), seed=seed, now=now, profile=SHOWN
    )
    predictions = tuple(result.prediction for result in results)
    return _written(study, decision, predictions, masks, objects, folder)


def _analyze_series(
    study: LocalStudy,
    package: ModelPackage,
    decision: RoutingDecision,
    models: ModelServer,
    folder: Path,
    now: datetime,
) -> Analysis:
    files = study.files or {}
    if study.is_nifti:
        volume = _nifti_as_series(files[""], folder, now)
    elif study.is_upload:
        raise WrongSourceError(
            f"Model {package.identity.model_id!r} takes volumes; this is a single picture."
        )
    else:
        volume = read_series(_opened(files[uid] for uid in decision.sop_instance_uids))
    prediction = models.predict(package.identity.model_id, volume)
    left_out = (
        (volume.volumes - 1) * len(volume.array)
        if study.is_nifti
        else images_left_out(study.facts, volume.sop_instance_uids)
    )
    masks: list[Path] = []
    for segment in prediction.segments:
        masks.append(folder / f"mask-{len(masks) + 1}-{_file_name(segment.label)}.nii.gz")
        write_nifti(masks[-1], segment.mask, volume.affine)
    objects = encode_volume(
        VolumeResult(prediction, volume.headers, volume.display, volume.frame_numbers, left_out),
        model=describe_model(package),
        seed=f"{volume.headers[0].StudyInstanceUID}/{package.identity.digest}",
        now=now,
        profile=SHOWN,
    )
    return _written(study, decision, (prediction,), masks, objects, folder)


def _written(
    study: LocalStudy,
    decision: RoutingDecision,
    predictions: tuple[Prediction, ...],
    masks: list[Path],
    objects: Sequence[ResultObject],
    folder: Path,
) -> Analysis:
    """Write the DICOM results; each Secondary Capture as PNG and the report as PDF too."""
    written: list[Path] = []
    pictures: list[Path] = []
    for item in objects:
        written.append(folder / f"{item.kind}-{len(written) + 1}.dcm")
        written[-1].write_bytes(item.data)
        if item.kind == "sc":
            pictures.append(written[-1].with_suffix(".png"))
            Image.fromarray(dcmread(io.BytesIO(item.data)).pixel_array).save(pictures[-1])
        elif item.kind == "pdf":
            paper = dcmread(io.BytesIO(item.data)).EncapsulatedDocument
            written[-1].with_suffix(".pdf").write_bytes(paper)
    return Analysis(
        study, decision.model, None, predictions, tuple(written), tuple(pictures), tuple(masks)
    )


def _opened(paths: Iterable[Path]) -> Iterator[BinaryIO]:
    for path in paths:
        with path.open("rb") as file:
            yield file


def _nifti_as_series(path: Path, folder: Path, now: datetime) -> Volume:
    """Read a NIfTI volume and write it as DICOM slices, for the results to refer to."""
    volume = read_nifti(path)
    seed = hashlib.sha256(path.read_bytes()).hexdigest()
    slices = volume_to_dicom(volume.array, volume.affine, seed=seed, now=now)
    source = folder / "source"
    source.mkdir(exist_ok=True)
    for number, ds in enumerate(slices, 1):
        ds.save_as(source / f"{number:04}.dcm", enforce_file_format=True)
        del ds.PixelData
    return replace(volume, headers=tuple(slices))


def _file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "segment"


def _source(path: Path, folder: Path, now: datetime) -> tuple[SourceImage, Dataset]:
    """Read an image; a picture is made a DICOM object too, for the results to refer to."""
    image = read_image(path)
    if image.dataset is not None:
        return image, image.dataset
    seed = hashlib.sha256(path.read_bytes()).hexdigest()
    dataset = picture_to_dicom(image.display, seed=seed, now=now)
    dataset.save_as(folder / "source.dcm", enforce_file_format=True)
    return SourceImage.of(image.array, read_facts(dataset)[0], dataset), dataset
