"""Predictions to DICOM results in new series of the study: reports, pictures, segmentations."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydicom import Dataset

from dicom_out.checks import check_result
from dicom_out.errors import ResultInputError
from dicom_out.groups import image_groups, volume_groups
from dicom_out.model_result import (
    ImageResult,
    ModelDescription,
    Predecessor,
    ResultObject,
    VolumeResult,
    fit_model,
    fit_prediction,
    sentences,
)
from dicom_out.patient import UTF_8, character_set_of, first_difference, read_identity
from dicom_out.profile import STANDARD, Profile
from dicom_out.sc import encode_capture, encode_montage
from dicom_out.seg import encode_segmentation
from dicom_out.series import ResultSeries
from dicom_out.sr import ReportContent, encode_report

__all__ = [
    "ImageResult",
    "ModelDescription",
    "ResultObject",
    "VolumeResult",
    "encode_results",
    "encode_volume",
]

LOGGER = logging.getLogger(__name__)


def encode_results(
    results: Sequence[ImageResult],
    *,
    model: ModelDescription,
    seed: str,
    now: datetime,
    profile: Profile = STANDARD,
    supersedes: Sequence[Predecessor] = (),
) -> list[ResultObject]:
    """Write what one model says about the images of one study, and check it.

    Parameters
    ----------
    results
        One per image, all of the same study and patient.
    model
        The model that made them.
    seed
        Decides every UID: the same seed gives the same ones. It should name the study, its
        revision and the model.
    now
        Date and time of the results, aware of its time zone.
    profile
        Which objects are wanted, and in which form.
    supersedes
        Earlier reports that the new one takes the place of.

    Returns
    -------
    list[ResultObject]
        Of what the profile sends: the structured report, then one Secondary Capture per image in
        the order of ``results``.

    Raises
    ------
    ResultInputError
        There are no results, or they don't belong together.
    ResultCheckError
        An object failed its check; nothing is returned, so nothing wrong can be sent.
    """
    _refuse_mixed(results)
    sources = [result.source for result in results]
    identity = _identity(sources[0], profile)
    _refuse_other_patients(sources, identity)
    character_set = character_set_of(identity)
    model = fit_model(model, character_set)
    results = [
        replace(result, prediction=fit_prediction(result.prediction, character_set))
        for result in results
    ]
    with warnings.catch_warnings(action="ignore"):  # the source's values out of form, copied
        written = _encode(results, model, identity, _Bundle(seed, now, profile), supersedes)
    return _checked(written, sources, identity, model, supersedes)


def encode_volume(
    result: VolumeResult,
    *,
    model: ModelDescription,
    seed: str,
    now: datetime,
    profile: Profile = STANDARD,
    supersedes: Sequence[Predecessor] = (),
) -> list[ResultObject]:
    """Write what one model says about a series, and check it.

    Parameters
    ----------
    result
        One prediction with its slices.
    model, seed, now, profile, supersedes
        As for :func:`encode_results`.

    Returns
    -------
    list[ResultObject]
        Of what the profile sends: the structured report, the segmentation if anything was found,
        and a picture of both.

    Raises
    ------
    ResultInputError
        The slices don't belong together, or masks lie on another grid.
    ResultCheckError
        An object failed its check; nothing is returned, so nothing wrong can be sent.
    """
    _refuse_other_grid(result)
    identity = _identity(result.sources[0], profile)
    _refuse_other_patients(result.sources, identity)
    character_set = character_set_of(identity)
    model = fit_model(model, character_set)
    result = replace(result, prediction=fit_prediction(result.prediction, character_set))
    with warnings.catch_warnings(action="ignore"):  # the source's values out of form, copied
        written = _encode_volume(result, model, identity, _Bundle(seed, now, profile), supersedes)
    return _checked(written, result.sources, identity, model, supersedes)


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What decides the UIDs of the objects that are written together."""

    seed: str
    now: datetime
    profile: Profile

    def series(self, kind: str) -> ResultSeries:
        """Return the new series of a kind of object."""
        return ResultSeries(self.seed, kind, self.now, self.profile.variant(kind))

    def write(self, kind: str, ds: Dataset) -> ResultObject:
        """Return an object as the bytes that are sent."""
        buffer = io.BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        return ResultObject(
            kind=kind,
            sop_class_uid=str(ds.SOPClassUID),
            sop_instance_uid=str(ds.SOPInstanceUID),
            series_instance_uid=str(ds.SeriesInstanceUID),
            data=buffer.getvalue(),
            variant=self.profile.variant(kind),
        )


def _identity(source: Dataset, profile: Profile) -> Dataset:
    identity = read_identity(source)
    if profile.character_set == "utf-8":
        identity.SpecificCharacterSet = UTF_8
    return identity


def _checked(
    written: list[ResultObject],
    sources: Sequence[Dataset],
    identity: Dataset,
    model: ModelDescription,
    supersedes: Sequence[Predecessor],
) -> list[ResultObject]:
    for item in written:
        check_result(item, sources, identity, written, supersedes)
    LOGGER.info("Wrote %d result objects of %s", len(written), model.identity.model_id)
    return written


def _encode(
    results: Sequence[ImageResult],
    model: ModelDescription,
    identity: Dataset,
    bundle: _Bundle,
    supersedes: Sequence[Predecessor],
) -> list[ResultObject]:
    content = ReportContent(
        sources=[result.source for result in results],
        conclusions=_conclusions(results),
        groups=[
            group
            for number, result in enumerate(results, 1)
            for group in image_groups(result, number, model)
        ],
        supersedes=supersedes,
    )
    profile = bundle.profile
    written = []
    if profile.sr:
        report = encode_report(content, model=model, identity=identity, series=bundle.series("sr"))
        written.append(bundle.write("sr", report))
    for number, result in enumerate(results if profile.sc else (), 1):
        capture = encode_capture(
            result, number, model=model, identity=identity, series=bundle.series("sc")
        )
        written.append(bundle.write("sc", capture))
    return written


def _encode_volume(
    result: VolumeResult,
    model: ModelDescription,
    identity: Dataset,
    bundle: _Bundle,
    supersedes: Sequence[Predecessor],
) -> list[ResultObject]:
    profile = bundle.profile
    segmentation = None
    if profile.seg != "none":
        segmentation = encode_segmentation(
            result, profile, model=model, identity=identity, series=bundle.series("seg")
        )
    written = []
    if profile.sr:
        content = ReportContent(
            sources=result.sources,
            conclusions=sentences(result.prediction, result.sources[0]),
            groups=list(volume_groups(result, segmentation, model)),
            segmentations=[] if segmentation is None else [segmentation],
            supersedes=supersedes,
        )
        report = encode_report(content, model=model, identity=identity, series=bundle.series("sr"))
        written.append(bundle.write("sr", report))
    if segmentation is not None:
        written.append(bundle.write("seg", segmentation))
    if profile.sc:
        picture = encode_montage(result, model=model, identity=identity, series=bundle.series("sc"))
        written.append(bundle.write("sc", picture))
    return written


def _conclusions(results: Sequence[ImageResult]) -> list[str]:
    """Say everything in words; of several images, which one it is about."""
    several = len(results) > 1
    return [
        f"Image {number}: {text}" if several else text
        for number, result in enumerate(results, 1)
        for text in sentences(result.prediction, result.source)
    ]


def _refuse_other_grid(result: VolumeResult) -> None:
    uids = tuple(str(source.SOPInstanceUID) for source in result.sources)
    if len(result.frames or result.sources) != len(result.display):
        raise ResultInputError("A series has another number of slices than its sources.")
    if result.prediction.sop_instance_uids != uids:
        raise ResultInputError("A prediction is about other slices than its sources.")
    if not result.prediction.segments:
        raise ResultInputError("A prediction about a series has no segments.")
    if any(part.mask.shape != result.display.shape for part in result.prediction.segments):
        raise ResultInputError("A mask is not on the grid of its series.")


def _refuse_mixed(results: Sequence[ImageResult]) -> None:
    if not results:
        raise ResultInputError("There are no predictions to write results of.")
    if len({str(result.source.StudyInstanceUID) for result in results}) > 1:
        raise ResultInputError("The images are of several studies; write results per study.")
    for result in results:
        if result.prediction.sop_instance_uid != result.source.SOPInstanceUID:
            raise ResultInputError("A prediction is about another image than its source.")
        prediction = result.prediction
        if not (prediction.findings or prediction.boxes or prediction.segments):
            raise ResultInputError("A prediction says nothing.")
        shape = result.display.shape[:2]
        if any(segment.mask.shape != shape for segment in prediction.segments):
            raise ResultInputError("A mask is not on the grid of its source image.")
        heatmap = result.prediction.heatmap
        if heatmap is not None and heatmap.array.shape != result.display.shape[:2]:
            raise ResultInputError("A heatmap is not on the grid of its source image.")


def _refuse_other_patients(sources: Sequence[Dataset], identity: Dataset) -> None:
    for source in sources[1:]:
        if first_difference(identity, read_identity(source), ("PatientID", "PatientName")):
            raise ResultInputError("The images of the study name several patients; see its source.")
