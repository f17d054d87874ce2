"""Analysis without a server: files in, findings, pictures and DICOM results out.

The same reading, routing, inference and encoding as the service's stages, in memory.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from PIL import Image
from pydicom import Dataset, dcmread

from dicom_out.delivery import walk
from dicom_out.model_result import ImageResult, ModelDescription
from dicom_out.picture import picture_to_dicom
from dicom_out.results import encode_results
from inference.manifest import Manifest
from inference.model_server import ModelServer
from inference.reading import read_image
from inference.registry import ModelPackage, Registry
from inference.routing import route
from inference.source_image import SourceImage
from ledger.domain import InstanceFacts, ModelIdentity, Prediction, Refusal, RoutingDecision
from ledger.errors import PacsightError
from ledger.facts import read_facts


@dataclass(frozen=True, slots=True)
class LocalStudy:
    """Files of one study, or one picture, or one file that can't be read.

    Attributes
    ----------
    name
        The file, or the folder that holds the study's files.
    files
        Where each image lies, by SOP Instance UID (``""`` for a picture).
    refusal
        Why the file can't be used; then there are no images.
    """

    name: str
    study_instance_uid: str = ""
    files: Mapping[str, Path] | None = None
    facts: tuple[InstanceFacts, ...] = ()
    refusal: Refusal | None = None

    @property
    def folder_name(self) -> str:
        """A name of its own for what is written of it: many files are called ``0001.dcm``."""
        key = self.study_instance_uid or str(Path(self.name).absolute())
        return f"{Path(self.name).stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    @property
    def is_picture(self) -> bool:
        """Whether it is a PNG or JPEG."""
        return self.refusal is None and not self.study_instance_uid


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one model says about one study; or why it says nothing."""

    study: LocalStudy
    model: ModelIdentity | None
    refusal: Refusal | None
    predictions: tuple[Prediction, ...] = ()
    results: tuple[Path, ...] = ()
    heatmaps: tuple[Path, ...] = ()
    seconds: float = 0.0


def collect_studies(paths: Sequence[Path]) -> list[LocalStudy]:
    """Read every file below `paths` and put the images of one study together."""
    studies: dict[str, list[tuple[Path, InstanceFacts]]] = {}
    found: list[LocalStudy] = []
    for path in walk(paths):
        try:
            facts = read_image(path).facts
        except PacsightError as error:
            found.append(LocalStudy(str(path), refusal=Refusal(error.code, str(error))))
            continue
        if facts.study_instance_uid:
            studies.setdefault(facts.study_instance_uid, []).append((path, facts))
        else:
            found.append(LocalStudy(str(path), files={"": path}, facts=(facts,)))
    return found + [_study(uid, images) for uid, images in studies.items()]


def _study(uid: str, images: Sequence[tuple[Path, InstanceFacts]]) -> LocalStudy:
    first = images[0][0]
    return LocalStudy(
        name=str(first if len(images) == 1 else first.parent),
        study_instance_uid=uid,
        files={facts.sop_instance_uid: path for path, facts in images},
        facts=tuple(facts for _, facts in images),
    )


def as_chosen(study: LocalStudy, manifest: Manifest) -> LocalStudy:
    """Return a picture as what the model expects, because somebody chose the model for it.

    A PNG or JPEG says nothing of modality, body part or view; size and colour still count.
    """
    accepts = manifest.accepts[0]
    facts = tuple(
        replace(
            item,
            modality=accepts.modality[0],
            sop_class_uid=next(iter(accepts.sop_class), ""),
            body_part_examined=next(iter(accepts.body_part_examined), ""),
            view_position=next(iter(accepts.view_position), ""),
        )
        for item in study.facts
    )
    return replace(study, facts=facts)


def describe_model(package: ModelPackage) -> ModelDescription:
    """Return what results say about the model that made them."""
    manifest = package.manifest
    return ModelDescription(
        identity=package.identity,
        intended_use=manifest.intended_use,
        research_statement=manifest.research_statement,
        content_qualification=manifest.content_qualification,
        licence=manifest.licence,
    )


def analyze_study(
    study: LocalStudy,
    registry: Registry,
    models: ModelServer,
    *,
    chosen: str | None,
    out: Path,
    now: datetime,
) -> Iterator[Analysis]:
    """Yield what each model says about a study; write heatmaps and DICOM results below `out`.

    Parameters
    ----------
    chosen
        Id of the only model to ask; a picture needs one, because it says nothing of its kind.
    """
    if study.refusal is not None:
        yield Analysis(study, None, study.refusal)
        return
    packages = [item for item in registry.models if chosen in {None, item.identity.model_id}]
    for package in packages:
        asked = as_chosen(study, package.manifest) if study.is_picture and chosen else study
        (decision,) = route(asked.facts, [package.manifest])
        if decision.refusal is not None:
            yield Analysis(study, decision.model, decision.refusal)
            continue
        try:
            yield _analyze(study, package, decision, models, out, now)
        except PacsightError as error:
            yield Analysis(study, decision.model, Refusal(error.code, str(error)))


def _analyze(
    study: LocalStudy,
    package: ModelPackage,
    decision: RoutingDecision,
    models: ModelServer,
    out: Path,
    now: datetime,
) -> Analysis:
    started = time.perf_counter()
    files = study.files or {}
    folder = out / study.folder_name / package.identity.model_id
    folder.mkdir(parents=True, exist_ok=True)
    results, heatmaps, predictions = [], [], []
    for uid in decision.sop_instance_uids:
        image, header = _source(files[uid], folder, now)
        prediction = models.predict(package.identity.model_id, image)
        predictions.append(prediction)
        results.append(ImageResult(prediction, header, image.display))
    written: list[Path] = []
    seed = f"{results[0].source.StudyInstanceUID}/{package.identity.digest}"
    for item in encode_results(results, model=describe_model(package), seed=seed, now=now):
        path = folder / f"{item.kind}-{len(written) + 1}.dcm"
        path.write_bytes(item.data)
        written.append(path)
        if item.kind == "sc":
            heatmaps.append(path.with_suffix(".png"))
            pixels = dcmread(io.BytesIO(item.data)).pixel_array
            Image.fromarray(pixels).save(heatmaps[-1])
    return Analysis(
        study,
        decision.model,
        None,
        tuple(predictions),
        tuple(written),
        tuple(heatmaps),
        time.perf_counter() - started,
    )


def _source(path: Path, folder: Path, now: datetime) -> tuple[SourceImage, Dataset]:
    """Read an image; a picture is made a DICOM object too, for the results to refer to."""
    image = read_image(path)
    if image.dataset is not None:
        return image, image.dataset
    seed = hashlib.sha256(path.read_bytes()).hexdigest()
    dataset = picture_to_dicom(image.display, seed=seed, now=now)
    dataset.save_as(folder / "source.dcm", enforce_file_format=True)
    return SourceImage.of(image.array, read_facts(dataset)[0], dataset), dataset
