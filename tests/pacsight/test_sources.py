"""Asking the sender what it holds: a real PACS, silent ones, and never in anybody's way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import Engine

from ledger.errors import LedgerError
from ledger.tables import Revision
from pacsight.peers import QueryJournal, ask_source
from scp.completeness import Tally
from scp.config import CompletenessConfig, Source
from scp.counts import (
    SourceAnswer,
    SourceSeries,
    compare_source,
    most_telling,
    state_counts,
)
from scp.evidence import EvidenceReader
from scp.indexer import index_received
from scp.revisions import close_complete_studies
from scp.sources import Sources
from tests.pacsight.test_patient_check import part10
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.scp.received import Received, radiograph
from tests.scp.test_stacks import ONE, replace

CONFIG = CompletenessConfig(quiet_s=3600, cap_s=7200)
SERIES = (SourceSeries("1.2", "CT", 40),)


def test_study_closes_when_all_that_the_pacs_holds_is_here(
    start_orthanc: Callable[..., Orthanc], sqlite_engine: Engine, tmp_path: Path
) -> None:
    pacs = start_orthanc()
    source = Source(
        ae_title="MODALITY", host="127.0.0.1", port=pacs.dicom_port, sends_whole_studies=True
    )
    journal = QueryJournal(sqlite_engine, lambda: 10.0)
    sources = Sources((source,), partial(ask_source, "PACSIGHT", journal))
    reader = EvidenceReader(sources)
    received = Received(sqlite_engine, tmp_path)
    study, series = generate_uid(), generate_uid()
    images = [radiograph(StudyInstanceUID=study, SeriesInstanceUID=series) for _ in range(3)]
    for ds in images:
        pacs.upload(part10(ds))

    def close() -> list[str]:
        index_received(sqlite_engine, received.spool, now=0.0)
        close_complete_studies(sqlite_engine, CONFIG, now=20.0, reader=reader)
        return [revision.reason_code for revision in received.all(Revision)]

    for ds in images[:2]:
        received.add(ds, at=10.0)
    assert close() == []  # asks, and does not wait for the answer
    wait_until(lambda: sources.look(study, {"MODALITY"}, 2), "the answer of the PACS")
    assert close() == []
    received.add(images[2], at=11.0)
    wait_until(close, "the revision")
    assert close() == ["SOURCE_COUNT_REACHED"]
    (revision,) = received.all(Revision)
    assert revision.confidence == "proven"
    assert "All 3 instances that the source holds are here" in revision.reason
    sources.stop()


class Peer:
    """A source whose answers the test gives."""

    def __init__(self) -> None:
        self.now = 100.0
        self.questions = 0
        self.answer: tuple[SourceSeries, ...] | None = SERIES
        self.may_answer = threading.Event()
        source = Source(ae_title="CT01", host="nowhere", port=1)
        self.sources = Sources((source,), self.ask, clock=lambda: self.now)

    def ask(self, _source: Source, _uid: str) -> tuple[SourceSeries, ...] | None:
        self.questions += 1
        assert self.may_answer.wait(30)
        return self.answer

    def look(self, held: int, *titles: str) -> list[SourceAnswer]:
        return self.sources.look("1.2.3", set(titles or ("CT01",)), held)

    def settle(self, held: int) -> None:
        """Wait until nothing is being asked."""
        wait_until(
            lambda: not self.sources._known["CT01", "1.2.3"].is_asking, f"an answer about {held}"
        )


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.may_answer.set()
    made.sources.stop()


def test_question_holds_nobody_up_and_is_asked_again_when_it_may_help(peer: Peer) -> None:
    assert peer.look(1) == []
    peer.now += 100.0
    assert peer.look(2) == []  # still being asked: not twice
    peer.may_answer.set()
    peer.settle(1)
    assert peer.look(1) == [SourceAnswer(SERIES, is_final=False)]
    assert peer.questions == 1
    peer.look(2)  # more came, but it was asked just now
    assert peer.questions == 1
    peer.now += 0.6
    peer.look(2)
    peer.settle(2)
    assert peer.questions == 2
    peer.now += 9.0
    peer.look(2)
    assert peer.questions == 2
    peer.now += 2.0
    peer.answer = None
    peer.look(2)
    peer.settle(2)
    assert peer.questions == 3
    assert peer.look(2) == []  # an old answer is no answer


def test_question_that_cannot_be_written_down_is_logged_and_asked_later(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unwritten(*_: object) -> None:
        raise LedgerError("The ledger is locked.")

    peer.may_answer.set()
    with monkeypatch.context() as down:
        down.setattr(peer.sources, "_ask", unwritten)
        assert peer.look(1) == []
        peer.settle(1)
    assert "source CT01 is not asked: LEDGER_UNAVAILABLE" in caplog.text
    assert peer.look(1) == []
    peer.now += 11.0
    peer.look(1)
    peer.settle(1)
    assert peer.look(1) == [SourceAnswer(SERIES, is_final=False)]


def test_every_known_sender_is_asked(peer: Peer) -> None:
    peer.may_answer.set()
    assert peer.look(1, "CT02") == []
    assert peer.questions == 0
    assert peer.look(1, "CT01", "CT02") == []
    peer.settle(1)
    assert peer.look(1, "CT01", "CT02") == [SourceAnswer(SERIES, is_final=False)]


def test_of_several_sources_the_one_that_misses_most_counts() -> None:
    proof, more, open_end = Tally(40, 0), Tally(60, 20), Tally(40, 0, is_final=False)
    assert most_telling([proof, more]) == more
    assert most_telling([open_end, proof]) == proof
    assert most_telling([]) is None


@pytest.mark.parametrize(
    ("series", "held", "own", "expected"),
    [
        (SERIES, {"1.2": 40}, (), Tally(40, 0)),
        (SERIES, {"1.2": 41}, (), Tally(40, 0, is_final=False)),  # it knows less than is here
        (SERIES, {"1.2": 40, "1.3": 1}, (), Tally(40, 0, is_final=False)),
        (SERIES, {"1.2": 40, "1.3": 1}, ("1.3",), Tally(40, 0)),
        (SERIES, {"1.2": 38}, (), Tally(40, 2)),
        (SERIES, {}, (), Tally(40, 40)),
        ((*SERIES, SourceSeries("1.9", "SR", 1)), {"1.2": 40}, (), Tally(40, 0)),
        ((*SERIES, SourceSeries("1.9", "SR", 2)), {"1.2": 40, "1.9": 1}, (), Tally(42, 1)),
        ((*SERIES, SourceSeries("1.9", "MR", 1)), {"1.2": 40}, ("1.9",), Tally(40, 0)),
        ((*SERIES, SourceSeries("1.9", "MR", 1)), {"1.2": 40}, (), Tally(41, 1)),
    ],
)
def test_what_a_source_holds_and_we_lack(
    series: tuple[SourceSeries, ...], held: dict[str, int], own: tuple[str, ...], expected: Tally
) -> None:
    assert compare_source(SourceAnswer(series, is_final=True), held, own) == expected


def test_counts_in_the_objects() -> None:
    def count(*totals: int, of_series: int = 0) -> Tally | None:
        instances = [
            replace(
                ONE,
                number_of_study_related_instances=total,
                number_of_study_related_series=of_series,
            )
            for total in totals
        ]
        return state_counts(instances, series=1)

    assert count(0, 0) is None
    assert count(2, 2) == Tally(2, 0)
    assert count(2, 0) == Tally(2, 0)
    assert count(3, 3) == Tally(3, 1)
    assert count(1, 2) == Tally(2, 0, is_final=False)  # counted while it grew
    assert count(1, 1) == Tally(2, 0, is_final=False)  # more is here, so it was no count of all
    assert count(2, 2, of_series=2) == Tally(2, 1)
    assert count(0, 0, of_series=1) == Tally(2, 0, is_final=False)
