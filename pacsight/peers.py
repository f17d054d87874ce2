"""What peers answer to questions about a study, and the record that they were asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Engine

from dicom_out.destination import Destination
from dicom_out.query import Note, find, series_of
from ledger.database import transaction
from ledger.events import record
from ledger.facts import read_text_value
from ledger.patients import Patient
from ledger.recent import RecentAccesses
from scp.config import Source
from scp.counts import SourceSeries

QUERIED = "peer.queried"


class QueryJournal:
    """Writes an event for each study or series that a peer is asked about, once in a while.

    Parameters
    ----------
    clock
        Seconds since 1970 UTC.
    """

    def __init__(self, database: Engine, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._recent = RecentAccesses()

    def of(self, peer: Destination) -> Note:
        """Return what to call before each request to a peer."""
        return partial(self._write, peer)

    def _write(
        self, peer: Destination, level: str, uid: str, keywords: tuple[str, ...], series: str
    ) -> None:
        now = self._clock()
        detail: dict[str, Any] = {"address": peer.host, "level": level, "keys": list(keywords)}
        if series:
            detail["series"] = series
        about = f"{uid}/{series}"
        with self._recent.noting(f"{peer.ae_title}@{peer.host}", level, about, now) as is_new:
            if not is_new:
                return
            with transaction(self._database) as session:
                record(
                    session,
                    actor=peer.ae_title,
                    action=QUERIED,
                    subject=uid,
                    detail=detail,
                    now=now,
                )


def ask_source(
    calling_ae_title: str, journal: QueryJournal, source: Source, study_instance_uid: str
) -> tuple[SourceSeries, ...] | None:
    """Return the series that a source holds of a study; None when it doesn't tell."""
    peer = Destination(
        name="source",
        ae_title=source.ae_title,
        host=source.host,
        port=source.port,
        tls=source.tls,
        timeout_s=source.timeout_s,
    )
    series = series_of(study_instance_uid, peer, calling_ae_title, journal.of(peer))
    return None if series is None else tuple(SourceSeries(*one) for one in series)


def ask_patient(
    calling_ae_title: str, journal: QueryJournal, destination: Destination, study_instance_uid: str
) -> Patient | None:
    """Return whose a study is at a destination; None when it doesn't tell or doesn't know it."""
    keywords = ("PatientID", "PatientName", "PatientBirthDate")
    note = journal.of(destination)
    matches = find("STUDY", study_instance_uid, keywords, destination, calling_ae_title, note)
    told = {Patient(*(read_text_value(one, key) for key in keywords)) for one in matches or ()}
    return told.pop() if len(told) == 1 else None
