"""A study whose images retention has removed: its page tells so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, select, update

from ledger.database import transaction
from ledger.tables import Instance, PredictionRow, ResultObjectRow
from tests.pacsight.archive import Archive
from tests.viewer_api.conftest import Browser


def test_page_of_a_study_whose_images_are_gone_says_so(
    sqlite_engine: Engine, tmp_path: Path, browser: Callable[..., Browser]
) -> None:
    box = Archive(sqlite_engine, tmp_path, keep_days=30)
    spool = box.segment()
    uid = box.study(spool, at=0.0)
    spool.close()
    with transaction(sqlite_engine) as session:
        summary = {"findings": [], "boxes": [], "segments": [], "heatmap": None}
        session.execute(update(PredictionRow).values(summary={**summary, "sop_instance_uids": []}))
        image = session.scalars(select(Instance.id)).first()
        result = session.scalars(select(ResultObjectRow.id)).one()
    box.run()
    rosa = browser("rosa")
    page = rosa.get(f"/studies/{uid}")
    assert page.status_code == 200
    assert "removed here on" in page.text
    state = rosa.get(f"/studies/{uid}/state").json()["state"]
    assert state.endswith("/1/1"), "first revision, one model has answered"
    assert f'data-state="{state}"' in page.text, "or the page would load for ever"
    assert rosa.get(f"/studies/{uid}/viewer.json").json()["series"] == []
    for path in (
        f"/instances/{image}/pixels",
        f"/studies/{uid}/results/{result}.dcm",
        f"/studies/{uid}/results.zip",
    ):
        answer = rosa.get(path)
        assert (answer.status_code, "rules of retention" in answer.text) == (410, True), path
