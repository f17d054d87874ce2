"""The page of a study: what it says first, and what it says at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.database import transaction
from ledger.tables import Decision, PredictionRow, Study
from scp.completeness import Confidence, Verdict
from scp.revisions import add_revision
from tests.pacsight.test_outbox import add_result
from tests.viewer_api.conftest import Browser, WebContext


def test_page_names_the_revision_that_was_superseded(
    context: WebContext, browser: Callable[..., Browser]
) -> None:
    with transaction(context.database) as session:
        add_result(session, "1.0")
        session.flush()
        study = session.scalars(select(Study)).one()
    rosa = browser("rosa")
    assert "Superseded revision" not in rosa.get("/studies/1.2").text
    with transaction(context.database) as session:
        study = session.scalars(select(Study)).one()
        add_revision(session, study, Verdict("LATE", "", Confidence.LIKELY), 100.0)
    page = rosa.get("/studies/1.2").text
    assert "<dt>Superseded revision</dt><dd>1, " in page
    assert "<dt>Revision</dt><dd>2, " in page


def add_prediction(session: Session, uid: str, **summary: Any) -> None:
    said = {
        "findings": [],
        "boxes": [],
        "segments": [],
        "heatmap": None,
        "sop_instance_uids": [uid],
    }
    session.add(
        PredictionRow(
            decision_id=session.scalars(select(Decision.id)).one(), sop_instance_uid=uid,
            summary={**said, "heatmap": None, **summary}, artifact="a", seconds=1.0, created_at=0,
        )
    )  # fmt: skip


def finding(label: str, probability: float, threshold: float) -> dict[str, Any]:
    return {"label": label, "probability": probability, "threshold": threshold}


def test_what_was_found_comes_first_with_its_place_and_size(
    context: WebContext, browser: Callable[..., Browser]
) -> None:
    quiet = [finding(f"quiet {number}", 0.3 - number / 100, 0.9) for number in range(7)]
    with transaction(context.database) as session:
        add_result(session, "1.0")
        add_prediction(
            session, "1.1", findings=[finding("Normal", 0.4, 0.5)], key_slice={
                "labels": ["Mass"], "positive_slices": [1], "number": 7, "slices": 24,
                "slices_looked_at": 22,
            }, heatmap={"label": "Normal", "layer": "x"},
        )  # fmt: skip
        add_prediction(
            session, "1.2", findings=[*quiet, finding("Mass", 0.1, 0.05)],
            heatmap={"label": "Mass", "layer": "x"},
            boxes=[{"label": "Node", "score": 0.8}],
            box_sizes=[[["Area", "81 mm2"], ["Long axis", "9.5 mm"]]],
            segments=[{"label": "Heart", "kind": {"color": None}, "voxels": 70}],
            segment_sizes=[[["Area", "70 pixels"]]],
        )  # fmt: skip
    page = " ".join(browser("rosa").get("/studies/1.2").text.split())
    labels = re.findall(r'class="finding-name">([^<]+)</span> <span class="state', page)
    assert labels == ["Normal", "Mass", *(f"quiet {number}" for number in range(7))]
    assert "More below threshold (3)" in page
    assert "number 7 speaks most for: Mass" in page
    assert re.findall(r'data-layer="(\d+)-heatmap" checked', page) == ["2"], "of what was found"
    assert "Area 81 mm², Long axis 9.5 mm" in page
    assert "Work is under way" in page
    german = browser("rosa").get("/studies/1.2", headers={"accept-language": "de"}).text
    assert "Fläche 70 Pixel<" in german


def test_study_that_waits_for_a_person_promises_nothing(
    context: WebContext, browser: Callable[..., Browser]
) -> None:
    with transaction(context.database) as session:
        add_result(session, "1.0")
        study = session.scalars(select(Study)).one()
        study.held_code, study.held_reason = "PATIENT_CONFLICT", "Whose is it?"
    page = browser("rosa").get("/studies/1.2").text
    assert "Whose is it?" in page
    assert "Work is under way" not in page
