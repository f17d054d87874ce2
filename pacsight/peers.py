"""What peers answer to questions about a study."""

from __future__ import annotations

from dicom_out.destination import Destination
from dicom_out.query import find, series_of
from ledger.facts import read_text_value
from ledger.patients import Patient
from scp.config import Source
from scp.counts import SourceSeries


def ask_source(
    calling_ae_title: str, source: Source, study_instance_uid: str
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
    series = series_of(study_instance_uid, peer, calling_ae_title)
    return None if series is None else tuple(SourceSeries(*one) for one in series)


def ask_patient(
    calling_ae_title: str, destination: Destination, study_instance_uid: str
) -> Patient | None:
    """Return whose a study is at a destination; None when it doesn't tell or doesn't know it."""
    keywords = ("PatientID", "PatientName", "PatientBirthDate")
    matches = find("STUDY", study_instance_uid, keywords, destination, calling_ae_title)
    told = {Patient(*(read_text_value(one, key) for key in keywords)) for one in matches or ()}
    return told.pop() if len(told) == 1 else None
