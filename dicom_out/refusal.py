"""Why a study was not analysed, as a small Basic Text SR (PS3.3 A.35.1) that every viewer can show.

No measurement could be drawn on an image, so it is no TID 1500 report.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime

from highdicom.sr import (
    CodeContentItem,
    CompositeContentItem,
    ContainerContentItem,
    ContentSequence,
    EnhancedSR,
    ImageContentItem,
    TextContentItem,
)
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage

from dicom_out import codes
from dicom_out.checks import check_results
from dicom_out.groups import CONTAINS, known_class
from dicom_out.model_result import (
    ModelDescription,
    Predecessor,
    ResultObject,
    fit_model,
)
from dicom_out.patient import LONG_STRING, UTF_8, character_set_of, fit_text, read_identity
from dicom_out.profile import Profile
from dicom_out.series import ResultSeries, finish
from dicom_out.sr import (
    NOT_REVIEWED,
    SERIES_NUMBER,
    evidence_of,
    name_sop_classes,
    observer_of,
    set_predecessors,
)
from ledger.domain import Refusal
from ledger.product import PRODUCT


def encode_refusal(
    reasons: Sequence[tuple[str, Refusal]],
    sources: Sequence[Dataset],
    *,
    model: ModelDescription,
    seed: str,
    now: datetime,
    profile: Profile,
    supersedes: Sequence[Predecessor] = (),
) -> list[ResultObject]:
    """Write why a study was not analysed, and check it; nothing if the profile doesn't want it.

    Parameters
    ----------
    reasons
        The name of each model that was asked, and why it gave no answer.
    sources
        Header of one object of each series that it is about.
    model
        Who says it.
    seed, now, profile, supersedes
        As for :func:`dicom_out.results.encode_results`.

    Raises
    ------
    ResultCheckError
        It failed its check and is not returned.
    """
    if not profile.sends("refusal"):
        return []
    identity = read_identity(sources[0])
    if profile.character_set == "utf-8":
        identity.SpecificCharacterSet = UTF_8
    character_set = character_set_of(identity)
    model = fit_model(model, character_set)
    variant = profile.variant("refusal")
    series = ResultSeries(seed, "refusal", now, variant)
    with warnings.catch_warnings(action="ignore"):  # the source's values out of form, copied
        ds = EnhancedSR(
            evidence=evidence_of(sources),
            content=_content(reasons, sources, model, character_set),
            series_instance_uid=series.series_instance_uid,
            series_number=SERIES_NUMBER,
            series_description=f"AI: not analysed, {model.name}"[:LONG_STRING],
            sop_instance_uid=series.sop_instance_uid(1),
            instance_number=1,
            manufacturer=PRODUCT,
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
        ds.SOPClassUID = BasicTextSRStorage
        name_sop_classes(ds, sources)
        set_predecessors(ds, supersedes)
        finish(ds, source=sources[0], identity=identity, model=model, series=series)
        written = ResultObject.of(ds, "refusal", variant)
    check_results([written], sources, identity, supersedes)
    return [written]


def _content(
    reasons: Sequence[tuple[str, Refusal]],
    sources: Sequence[Dataset],
    model: ModelDescription,
    character_set: str | list[str],
) -> Dataset:
    """Return the root container."""
    root = ContainerContentItem(name=codes.DIAGNOSTIC_IMAGING_REPORT)
    summary = CodeContentItem(
        name=codes.PROCESSING_SUMMARY,
        value=codes.NO_ALGORITHM_SUCCEEDED,
        relationship_type=CONTAINS,
    )
    texts = [
        TextContentItem(
            name=codes.CONCLUSION,
            value=fit_text(f"Not analysed by {name}: {one.code}. {one.message}", character_set),
            relationship_type=CONTAINS,
        )
        for name, one in reasons
    ]
    statement = f"{NOT_REVIEWED} {model.research_statement.rstrip('.')}."
    texts.append(TextContentItem(name=codes.COMMENT, value=statement, relationship_type=CONTAINS))
    about = [_about(source) for source in sources]
    root.ContentSequence = ContentSequence([*observer_of(model), summary, *texts, *about])
    return root


def _about(source: Dataset) -> Dataset:
    """Return the reference to an object: as an image if it is one."""
    kind = ImageContentItem if "Rows" in source else CompositeContentItem
    return kind(
        name=codes.SOURCE,
        referenced_sop_class_uid=known_class(source),
        referenced_sop_instance_uid=source.SOPInstanceUID,
        relationship_type=CONTAINS,
    )
