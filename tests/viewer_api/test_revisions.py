"""A study that was analysed again: its page marks what no longer counts."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from ledger.database import transaction
from ledger.tables import Study
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
