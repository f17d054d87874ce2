"""Predictions to DICOM results: a report and one heatmap per image, in new series of the study."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydicom import Dataset

from dicom_out.checks import check_result
from dicom_out.errors import ResultInputError
from dicom_out.model_result import (
    ImageResult,
    ModelDescription,
    ResultObject,
    fit_finding,
    fit_model,
)
from dicom_out.patient import character_set_of, first_difference, read_identity
from dicom_out.sc import encode_capture
from dicom_out.series import ResultSeries
from dicom_out.sr import encode_report

__all__ = ["ImageResult", "ModelDescription", "ResultObject", "encode_results"]

LOGGER = logging.getLogger(__name__)


def encode_results(
    results: Sequence[ImageResult],
    *,
    model: ModelDescription,
    seed: str,
    now: datetime,
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

    Returns
    -------
    list[ResultObject]
        The structured report, then one Secondary Capture per image in the order of ``results``.

    Raises
    ------
    ResultInputError
        There are no results, or they don't belong together.
    ResultCheckError
        An object failed its check; nothing is returned, so nothing wrong can be sent.
    """
    _refuse_mixed(results)
    sources = [result.source for result in results]
    identity = read_identity(sources[0])
    _refuse_other_patients(sources, identity)
    character_set = character_set_of(identity)
    model = fit_model(model, character_set)
    results = [_fit(result, character_set) for result in results]
    with warnings.catch_warnings(action="ignore"):  # the source's values out of form, copied
        written = _encode(results, model, identity, seed, now)
    for item in written:
        check_result(item, sources, identity)
    LOGGER.info("Wrote %d result objects of %s", len(written), model.identity.model_id)
    return written


def _encode(
    results: Sequence[ImageResult],
    model: ModelDescription,
    identity: Dataset,
    seed: str,
    now: datetime,
) -> list[ResultObject]:
    series = ResultSeries(seed, "sr", now)
    report = encode_report(results, model=model, identity=identity, series=series)
    written = [_write("sr", report)]
    captures = ResultSeries(seed, "sc", now)
    for number, result in enumerate(results, 1):
        capture = encode_capture(result, number, model=model, identity=identity, series=captures)
        written.append(_write("sc", capture))
    return written


def _fit(result: ImageResult, character_set: str | list[str]) -> ImageResult:
    findings = tuple(fit_finding(f, character_set) for f in result.prediction.findings)
    heatmap = result.prediction.heatmap
    if heatmap is not None:
        labels = [finding.label for finding in result.prediction.findings]
        if heatmap.label in labels:
            heatmap = replace(heatmap, label=findings[labels.index(heatmap.label)].label)
    return replace(
        result, prediction=replace(result.prediction, findings=findings, heatmap=heatmap)
    )


def _refuse_mixed(results: Sequence[ImageResult]) -> None:
    if not results:
        raise ResultInputError("There are no predictions to write results of.")
    if len({str(result.source.StudyInstanceUID) for result in results}) > 1:
        raise ResultInputError("The images are of several studies; write results per study.")
    for result in results:
        if result.prediction.sop_instance_uid != result.source.SOPInstanceUID:
            raise ResultInputError("A prediction is about another image than its source.")
        if not result.prediction.findings:
            raise ResultInputError("A prediction has no findings.")
        heatmap = result.prediction.heatmap
        if heatmap is not None and heatmap.array.shape != result.display.shape[:2]:
            raise ResultInputError("A heatmap is not on the grid of its source image.")


def _refuse_other_patients(sources: Sequence[Dataset], identity: Dataset) -> None:
    for source in sources[1:]:
        if first_difference(identity, read_identity(source), ("PatientID", "PatientName")):
            raise ResultInputError("The images of the study name several patients; see its source.")


def _write(kind: str, ds: Dataset) -> ResultObject:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return ResultObject(
        kind=kind,
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        series_instance_uid=str(ds.SeriesInstanceUID),
        data=buffer.getvalue(),
    )
