"""C-FIND SCU (PS3.4 Annex C, Study Root): what a peer holds of a study, and whose it is there.

Who asks learns of each request before it goes out: queries are audited.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeAlias

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_out.association import close_association, open_association
from dicom_out.destination import CUT_OFF, Destination, Outcome, Verdict
from ledger.facts import read_number, read_text_value

MODEL = StudyRootQueryRetrieveInformationModelFind
PENDING = (0xFF00, 0xFF01)  # PS3.4 table C.4-1
SUCCESS = 0x0000
INSTANCE_KEYS = ("SOPInstanceUID",)
MAX_ANSWERS = 10_000
"""A study has fewer series; a peer that ignores the keys must not fill the memory."""
Note: TypeAlias = Callable[[str, str, tuple[str, ...], str], None]
"""Called with Query/Retrieve Level, Study Instance UID, keys and, of one series, its UID."""
DOES_NOT_TELL = Verdict(
    Outcome.REFUSED, "QUERY_REFUSED", "The destination does not answer C-FIND; allow us to query."
)


def identifier_of(
    level: str, study_instance_uid: str, keywords: tuple[str, ...], series_instance_uid: str = ""
) -> Dataset:
    """Return the identifier of a request about a study or series (PS3.4 section C.4.1.1.3)."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in keywords:
        setattr(identifier, keyword, None)
    identifier.StudyInstanceUID = study_instance_uid
    if series_instance_uid:
        identifier.SeriesInstanceUID = series_instance_uid
    return identifier


def encode_identifier(identifier: Dataset) -> tuple[bytes, str]:
    """Return an identifier as bytes, and their Transfer Syntax UID."""
    encoded = DicomBytesIO()
    encoded.is_little_endian = encoded.is_implicit_VR = True
    write_dataset(encoded, identifier)
    return encoded.getvalue(), str(ImplicitVRLittleEndian)


def find(
    level: str,
    study_instance_uid: str,
    keywords: tuple[str, ...],
    peer: Destination,
    title: str,
    note: Note,
) -> list[Dataset] | None:
    """Return the matches at a level of one study, or None when the peer doesn't tell.

    Whatever the peer or the network does raises no error.

    Parameters
    ----------
    level
        Query/Retrieve Level (0008,0052).
    keywords
        Attributes to return.
    peer
        Whom to ask, and how patiently.
    title
        How to introduce ourselves, unless the peer's settings say otherwise.
    """
    association = open_association([(MODEL, None)], peer, title)
    if isinstance(association, Verdict):
        return None
    identifier = identifier_of(level, study_instance_uid, keywords)
    try:
        note(level, study_instance_uid, keywords, "")
        return _matches(association.send_c_find(identifier, MODEL), study_instance_uid)
    except (RuntimeError, ValueError):  # aborted meanwhile; the model is not accepted
        return None
    finally:
        close_association(association)


def _matches(
    answers: Iterator[tuple[Dataset, Dataset | None]], study_instance_uid: str
) -> list[Dataset] | None:
    found: list[Dataset] = []
    for status, match in answers:
        code = status.get("Status")
        if code == SUCCESS:
            return found
        if code not in PENDING or match is None or len(found) >= MAX_ANSWERS:
            return None
        if read_text_value(match, "StudyInstanceUID") in ("", study_instance_uid):
            found.append(match)
    return None


def held_of(
    series: Collection[tuple[str, str]], peer: Destination, title: str, note: Note
) -> set[str] | Verdict:
    """Return which SOP Instances a peer holds of some series, or why it does not tell.

    Parameters
    ----------
    series
        Study and Series Instance UID of each; all are asked on one association.
    """
    association = open_association([(MODEL, None)], peer, title)
    if isinstance(association, Verdict):
        return association
    held: set[str] = set()
    try:
        for study_uid, series_uid in series:
            identifier = identifier_of("IMAGE", study_uid, INSTANCE_KEYS, series_uid)
            note("IMAGE", study_uid, INSTANCE_KEYS, series_uid)
            found = _matches(association.send_c_find(identifier, MODEL), study_uid)
            if found is None:
                return DOES_NOT_TELL if association.is_established else CUT_OFF
            held |= {read_text_value(one, "SOPInstanceUID") for one in found}
    except (RuntimeError, ValueError):  # aborted meanwhile
        return CUT_OFF
    finally:
        close_association(association)
    return held


def series_of(
    study_instance_uid: str, peer: Destination, title: str, note: Note
) -> list[tuple[str, str, int]] | None:
    """Return Series Instance UID, Modality and number of instances of each series.

    None when the peer doesn't tell, or leaves out the numbers, which are optional
    (PS3.4 section C.3.4).
    """
    keywords = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")
    matches = find("SERIES", study_instance_uid, keywords, peer, title, note)
    series = [
        (
            read_text_value(one, "SeriesInstanceUID"),
            read_text_value(one, "Modality"),
            read_number(one, "NumberOfSeriesRelatedInstances"),
        )
        for one in matches or ()
    ]
    return series if series and all(uid and count for uid, _, count in series) else None
