"""Predictions to DICOM results in new series of the study: reports, pictures, segmentations."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict

from pydicom import Dataset

from dicom_out.checks import check_results
from dicom_out.document import encode_document
from dicom_out.errors import ResultInputError
from dicom_out.groups import Group
from dicom_out.image_groups import image_groups
from dicom_out.model_result import (
    ImageResult,
    ModelDescription,
    Predecessor,
    ResultObject,
    VolumeResult,
    fit_model,
    fit_prediction,
)
from dicom_out.patient import UTF_8, character_set_of, first_difference, read_identity
from dicom_out.profile import STANDARD, Profile
from dicom_out.sc import Capture, captures_of_images, captures_of_volume, encode_capture
from dicom_out.seg import encode_segmentation
from dicom_out.series import ResultSeries
from dicom_out.sr import ReportContent, encode_report
from dicom_out.volume_groups import volume_groups
from dicom_out.words import Statement, statements

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
        Of what the profile sends: the structured report, one Secondary Capture per image in the
        order of ``results``, and the report as a PDF.

    Raises
    ------
    ResultInputError
        There are no results, or they don't belong together.
    ResultCheckError
        An object failed its check; nothing is returned, so nothing wrong can be sent.
    """
    _refuse_mixed(results)
    identity, model, character_set = _common([one.source for one in results], model, profile)
    results = [
        replace(result, prediction=fit_prediction(result.prediction, character_set))
        for result in results
    ]
    several = len(results) > 1
    draft = _Draft(
        sources=[result.source for result in results],
        rows=[
            (f"Image {number}" if several else "", said)
            for number, result in enumerate(results, 1)
            for said in statements(result)
        ],
        groups=lambda _: [
            group
            for number, result in enumerate(results, 1)
            for group in image_groups(result, number, model)
        ],
        captures=captures_of_images(results, model),
    )
    bundle = _Bundle(seed, now, profile, model, identity)
    return _assemble(draft, bundle, supersedes)


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
        pictures (a montage, then the slices that matter), and the report as a PDF.

    Raises
    ------
    ResultInputError
        The slices don't belong together, or masks lie on another grid.
    ResultCheckError
        An object failed its check; nothing is returned, so nothing wrong can be sent.
    """
    _refuse_other_grid(result)
    identity, model, character_set = _common(result.objects, model, profile)
    result = replace(result, prediction=fit_prediction(result.prediction, character_set))
    draft = _Draft(
        sources=result.objects,
        rows=[("", said) for said in statements(result)],
        groups=lambda segmentation: list(volume_groups(result, segmentation, model)),
        captures=captures_of_volume(result, model),
        volume=result,
    )
    bundle = _Bundle(seed, now, profile, model, identity)
    return _assemble(draft, bundle, supersedes)


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a bundle is made of, alike for images and series."""

    sources: Sequence[Dataset]
    rows: Sequence[tuple[str, Statement]]
    groups: Callable[[Dataset | None], list[Group]]
    """The report's measurement groups, given the SEG that they refer to"""
    captures: Sequence[Capture]
    volume: VolumeResult | None = None

    def content(
        self,
        segmentations: Sequence[Dataset],
        captures: Sequence[Dataset],
        supersedes: Sequence[Predecessor],
    ) -> ReportContent:
        """Return what the report says, given the objects that go along with it."""
        return ReportContent(
            sources=self.sources,
            conclusions=[
                f"{place}: {said.text}" if place else said.text for place, said in self.rows
            ],
            groups=self.groups(segmentations[0] if segmentations else None),
            segmentations=segmentations,
            illustrations=captures,
            supersedes=supersedes,
        )

    @property
    def printed(self) -> Sequence[Capture]:
        """The pictures that go on paper: of a series the montage only."""
        return self.captures if self.volume is None else self.captures[:1]


def _common(
    sources: Sequence[Dataset], model: ModelDescription, profile: Profile
) -> tuple[Dataset, ModelDescription, str | list[str]]:
    """Return whose results these are, and the model in that character set."""
    identity = read_identity(sources[0])
    if profile.character_set == "utf-8":
        identity.SpecificCharacterSet = UTF_8
    _refuse_other_patients(sources, identity)
    character_set = character_set_of(identity)
    return identity, fit_model(model, character_set), character_set


class _Shared(TypedDict):
    model: ModelDescription
    identity: Dataset
    series: ResultSeries


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What the objects that are written together share."""

    seed: str
    now: datetime
    profile: Profile
    model: ModelDescription
    identity: Dataset

    def parts(self, kind: str) -> _Shared:
        """Return what the writer of a kind of object is given."""
        series = ResultSeries(self.seed, kind, self.now, self.profile.variant(kind))
        return {"model": self.model, "identity": self.identity, "series": series}

    def write(self, kind: str, ds: Dataset) -> ResultObject:
        """Return an object as the bytes that are sent."""
        return ResultObject.of(ds, kind, self.profile.variant(kind))


def _assemble(
    draft: _Draft, bundle: _Bundle, supersedes: Sequence[Predecessor]
) -> list[ResultObject]:
    """Write what a profile sends, and check it; the report refers to the other objects."""
    profile = bundle.profile
    segmentations, captures, written = [], [], []
    with warnings.catch_warnings(action="ignore"):  # the source's values out of form, copied
        if draft.volume is not None and profile.sends("seg"):
            found = encode_segmentation(draft.volume, profile, **bundle.parts("seg"))
            segmentations += [] if found is None else [found]
        for number, capture in enumerate(draft.captures if profile.sends("sc") else (), 1):
            captures.append(encode_capture(capture, number, **bundle.parts("sc")))
        if profile.sends("sr"):
            content = draft.content(segmentations, captures, supersedes)
            written.append(bundle.write("sr", encode_report(content, **bundle.parts("sr"))))
        written += [bundle.write("seg", segmentation) for segmentation in segmentations]
        written += [bundle.write("sc", capture) for capture in captures]
        if profile.sends("pdf"):
            paper = encode_document(draft.rows, draft.printed, draft.sources, **bundle.parts("pdf"))
            written.append(bundle.write("pdf", paper))
    check_results(written, draft.sources, bundle.identity, supersedes)
    LOGGER.info("Wrote %d result objects of %s", len(written), bundle.model.identity.model_id)
    return written


def _refuse_other_grid(result: VolumeResult) -> None:
    uids = tuple(str(source.SOPInstanceUID) for source in result.sources)
    if {len(result.sources), len(result.frames or uids)} != {len(result.display)}:
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
        if first_difference(identity, source, ("PatientID", "PatientName")):
            raise ResultInputError("The images of the study name several patients; see its source.")
