"""The engine room: is the event log whole, what does a destination take."""

from __future__ import annotations

import html
import re
import socket
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, select

from dicom_out.destination import Destination
from ledger.anchors import note_head
from ledger.audit import verify_log
from ledger.database import reading, transaction
from ledger.events import record
from ledger.seal import seal_events
from ledger.tables import Event
from pacsight.settings import Settings
from pacsight.web import _listen, _self_test
from tests.dicom_out.scripted_pacs import scripted_pacs
from tests.viewer_api.conftest import Browser, make_context
from viewer_api.config import WebConfig
from viewer_api.context import WebContext
from viewer_api.routes.operations import PAGE

Open = Callable[..., Browser]


def events(context: WebContext, action: str) -> list[Event]:
    with reading(context.database) as session:
        return list(session.scalars(select(Event).where(Event.action == action)))


def test_event_log_page_tells_whether_it_is_whole(browser: Open, context: WebContext) -> None:
    one = browser("adam")
    assert "Nobody has verified it yet" in one.get("/operations/events").text
    seal_events(context.database)
    assert one.submit("/operations/events/verify") == 303
    assert "Yes: every event is what was sealed." in one.get("/operations/events").text

    head = verify_log(context.database).head
    note_head(context.data_dir, head, 1.0)
    with context.database.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER event_never_goes")
        connection.exec_driver_sql(f"DELETE FROM event WHERE number = {head.number}")
    assert one.submit("/operations/events/verify") == 303
    page = one.get("/operations/events").text
    assert "LOG_TRUNCATED" in page
    assert f"event {head.number} was noted outside" in page

    found = one.get("/operations/events", params={"actor": "adam", "action": "audit."}).text
    assert found.count('<code class="number">audit.verified</code>') == 2
    reads = events(context, "events.read")
    assert reads[-1].detail == {"asked_by": ["actor", "action"]}, "who looked, not for what"


def test_events_are_found_by_day_page_by_page(browser: Open, context: WebContext) -> None:
    days = [datetime(2026, 1, day, 12).astimezone().timestamp() for day in (5, 6, 7)]
    with transaction(context.database) as session:
        for at in days:
            for _ in range(PAGE + 1 if at == days[1] else 1):
                record(session, actor="x", action="study.seen", subject="1.2", detail={}, now=at)
    one = browser("adam")
    asked = {"actor": "x", "action": "", "subject": "", "since": "2026-01-06", "until": ""}
    assert one.get("/operations/events", params=asked).text.count("/studies/1.2") == PAGE
    page = one.get("/operations/events", params={**asked, "until": "2026-01-06"}).text
    assert page.count("2026-01-06 12:00") == PAGE
    older = re.search(r'href="(\?[^"]+before=[^"]+)"', page)
    assert older is not None
    rest = one.get(f"/operations/events{html.unescape(older[1])}").text
    assert rest.count("2026-01-06 12:00") == 1
    assert "2026-01-05 12:00" not in rest
    with transaction(context.database) as session:
        for action, uid in (("peer.queried", "1.3"), ("delivery.delivered", "1.4")):
            record(session, actor="y", action=action, subject=uid, detail={}, now=days[0])
    page = one.get("/operations/events?actor=y").text
    assert ("/studies/1.3" in page, "/studies/1.4" in page) == (True, False), "an instance"
    whole = one.get("/operations/events?actor=x&since=0001-01-01&until=9999-12-31").text
    assert whole.count("/studies/1.2") == PAGE, "no day is too early or too late to ask for"


def test_self_test_says_what_the_destination_took_and_what_to_look_for(
    browser_at: Callable[[WebContext], Browser], sqlite_engine: Engine, tmp_path: Path
) -> None:
    with scripted_pacs() as pacs:  # takes no CT and no SEG
        there = Destination(name="pacs", ae_title="ANY", host="127.0.0.1", port=pacs.port)
        settings = Settings(data_dir=tmp_path, destinations=(there,))
        context = make_context(
            sqlite_engine, tmp_path, destinations=(there,),
            self_test=partial(_self_test, settings),
        )  # fmt: skip
        one = browser_at(context)
        page = one.post(
            "/operations/destinations/pacs/selftest", data={"csrf_token": one.csrf}
        ).text
        assert "It did not take everything" in page
        assert "Left lung" in page
        assert "CONTEXT_NOT_ACCEPTED" in page
        assert len(pacs.instances) > 1, "report and pictures went"
    (event,) = events(context, "destination.selftest")
    assert event.detail["delivered"]["sr"] is True
    assert event.detail["delivered"]["seg"] is False
    assert one.submit("/operations/destinations/nobody/selftest") == 404


def test_answers_do_not_wait_for_the_clients_acknowledgement(tmp_path: Path) -> None:
    with (
        _listen(Settings(data_dir=tmp_path, web=WebConfig(port=0))) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
