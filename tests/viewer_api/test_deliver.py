"""Results that a person sends to a destination: what its profile wants, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from dicom_out.destination import Destination
from dicom_out.profile import KINDS, STANDARD, TRANSFER_SYNTAXES, Profile
from ledger.database import reading, transaction
from ledger.tables import Delivery, ResultEncoding, ResultObjectRow
from tests.pacsight.test_outbox import add_result
from tests.viewer_api.conftest import Browser
from viewer_api.context import WebContext

PROFILES = {
    "pacs": STANDARD,
    "told": Profile(
        name="told", seg="labelmap", sc=False, refusals=True, character_set="utf-8",
        transfer_syntax="rle",
    ),
}  # fmt: skip
WRITTEN = [
    *((kind, "") for kind in KINDS), ("seg", "labelmap+utf-8"), ("sr", "labelmap+no-sc+utf-8"),
    ("refusal", "utf-8"), ("source", ""),
]  # fmt: skip


@pytest.fixture
def context(context: WebContext) -> WebContext:
    object.__setattr__(
        context,
        "destinations",
        tuple(Destination(name=name, ae_title="P", host="h", port=1) for name in PROFILES),
    )
    object.__setattr__(context, "profile_of", lambda one: PROFILES[one.name])
    return context


@pytest.mark.parametrize(
    ("destination", "wanted"),
    [
        ("pacs", {("sr", ""), ("seg", ""), ("sc", ""), ("source", "")}),
        ("told", {*WRITTEN[-4:]}),
    ],
)
def test_destination_gets_what_its_profile_wants(
    context: WebContext,
    browser: Callable[..., Browser],
    destination: str,
    wanted: set[tuple[str, str]],
) -> None:
    with transaction(context.database) as session:
        first = add_result(session, "1.0")
        session.flush()
        session.delete(first)
        row = session.get_one(ResultObjectRow, first.result_object_id)
        for number, (kind, variant) in enumerate(WRITTEN):
            result = ResultObjectRow(
                decision_id=row.decision_id, kind=kind, variant=variant, sop_class_uid="1",
                path="p", size=1, sop_instance_uid=f"2.{number}", series_instance_uid="1",
                sha256="", created_at=0,
            )  # fmt: skip
            session.add(result)
            session.flush()
            if kind == "seg":
                session.add_all(
                    ResultEncoding(
                        result_object_id=result.id, transfer_syntax_uid=uid, path=name, size=1,
                        sha256="",
                    )
                    for name, uid in TRANSFER_SYNTAXES.items() if name != "uncompressed"
                )  # fmt: skip
        session.delete(row)
    rosa = browser("rosa")
    assert rosa.submit("/studies/1.2/deliver", destination=destination) == 303
    with reading(context.database) as session:
        found = session.execute(
            select(ResultObjectRow.kind, ResultObjectRow.variant, ResultEncoding.path)
            .join(Delivery, Delivery.result_object_id == ResultObjectRow.id)
            .outerjoin(ResultEncoding, Delivery.encoding_id == ResultEncoding.id)
            .where(Delivery.destination == destination)
        ).all()
    assert {(kind, variant) for kind, variant, _ in found} == wanted
    sent_as = {kind: syntax for kind, _, syntax in found if syntax}
    assert sent_as == ({"seg": "rle"} if destination == "told" else {})
