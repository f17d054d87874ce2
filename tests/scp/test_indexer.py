from __future__ import annotations

import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)
from sqlalchemy import Engine, text

from dicom_out.picture import picture_to_dicom
from ledger.database import transaction
from ledger.errors import LedgerError
from ledger.tables import (
    Decision,
    Event,
    Instance,
    PatientClaim,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from scp.config import StatRule
from scp.errors import SpoolError, StudyHeldError
from scp.indexer import BATCH, index_received
from scp.patient_guard import release_study
from scp.revisions import replay_study
from tests.dicom_out import factories as results
from tests.scp.received import SEGMENT, Received, data_set_bytes, radiograph


@pytest.fixture
def received(engine: Engine, tmp_path: Path) -> Received:
    return Received(engine, tmp_path)


@pytest.fixture
def on_sqlite(sqlite_engine: Engine, tmp_path: Path) -> Received:
    """For what has nothing to do with the database."""
    return Received(sqlite_engine, tmp_path)


def index(received: Received, **options: Any) -> int:
    return index_received(received.engine, received.spool, now=100.0, **options)


def quarantine(received: Received, object_id: int) -> str | None:
    assert index(received) == 1
    row = received.row(object_id)
    assert row.state == "quarantined"
    assert row.reason
    assert row.reason.endswith((".", "!"))
    events = received.all(Event)
    assert [event.action for event in events] == ["object.quarantined"]
    assert events[0].detail["code"] == row.reason_code
    assert received.all(Instance) == []
    return row.reason_code


def test_object_becomes_study_series_and_instance(received: Received) -> None:
    ds = radiograph()
    object_id = received.add(ds, at=7.0)

    assert index(received) == 1

    (study,), (series,), (instance,) = map(received.all, (Study, Series, Instance))
    assert study.study_instance_uid == ds.StudyInstanceUID
    assert (study.patient_name, study.patient_id) == ("Müller^Änne", "4711")
    assert (study.first_received_at, study.last_received_at, study.open_since) == (7.0, 7.0, 7.0)
    assert (series.study_id, series.modality, series.series_number) == (study.id, "DX", 2)
    assert (instance.series_id, instance.received_object_id) == (series.id, object_id)
    assert (instance.version, instance.is_current, instance.revision_id) == (1, True, None)
    assert instance.facts["has_pixel_data"] is True
    assert instance.facts["transfer_syntax_uid"] == ds.file_meta.TransferSyntaxUID
    assert received.row(object_id).state == "indexed"
    assert received.row(object_id).sha256 == instance.sha256


def test_study_of_several_series_is_one_study_and_spans_its_arrivals(received: Received) -> None:
    study = generate_uid()
    for at in (5.0, 3.0, 9.0):
        received.add(radiograph(StudyInstanceUID=study), at=at)

    assert index(received) == 3

    (row,) = received.all(Study)
    assert (row.first_received_at, row.last_received_at, row.open_since) == (5.0, 9.0, 3.0)
    assert len(received.all(Series)) == 3


def test_identical_data_set_from_another_sender_changes_nothing(received: Received) -> None:
    ds = radiograph()
    received.add(ds, at=1.0, sender="MODALITY")
    index(received)
    again = received.add(ds, at=50.0, sender="PACS")

    assert index(received) == 1

    assert received.row(again).state == "duplicate"
    assert len(received.all(Instance)) == 1
    assert received.all(Study)[0].last_received_at == 1.0
    assert received.all(Event) == []


def test_other_content_under_the_same_uid_is_a_new_version_and_opens_the_study(
    received: Received,
) -> None:
    ds = radiograph()
    received.add(ds, at=1.0)
    index(received)
    with transaction(received.engine) as session:
        study = session.get_one(Study, 1)
        study.open_since = None
    ds.PatientName = "Meier^Änne"
    newer = received.add(ds, at=50.0)

    assert index(received) == 1

    first, second = received.all(Instance)
    assert (first.version, first.is_current) == (1, False)
    assert (second.version, second.is_current, second.received_object_id) == (2, True, newer)
    assert received.all(Study)[0].open_since == 50.0
    event, corrected = received.all(Event)
    assert (event.action, event.subject) == ("instance.new_version", ds.SOPInstanceUID)
    assert corrected.action == "patient.corrected"
    assert "Meier" not in str([event.detail, corrected.detail])


def test_content_known_as_an_older_version_is_a_duplicate(on_sqlite: Received) -> None:
    ds = radiograph()
    for number in (1, 2, 1):
        ds.InstanceNumber = number
        on_sqlite.add(ds)

    assert index(on_sqlite) == 3

    states = [row.state for row in on_sqlite.all(ReceivedObject)]
    assert states == ["indexed", "indexed", "duplicate"]


def test_versions_within_one_batch_are_counted_in_the_order_they_came(received: Received) -> None:
    ds = radiograph()
    for number in range(5):
        ds.InstanceNumber = number
        received.add(ds)

    index(received)

    instances = received.all(Instance)
    assert [(i.version, i.facts["instance_number"]) for i in instances] == [
        (number + 1, number) for number in range(5)
    ]
    assert [i.is_current for i in instances] == [False] * 4 + [True]


def test_result_of_this_ledger_that_comes_back_starts_nothing(received: Received) -> None:
    ds = radiograph()
    with transaction(received.engine) as session:
        study = Study(study_instance_uid="1.2", **_NOBODY, first_received_at=0, last_received_at=0)
        session.add(study)
        session.flush()
        revision = Revision(study_id=study.id, number=1, reason_code="X", reason="x", created_at=0)
        session.add(revision)
        session.flush()
        decision = Decision(
            revision_id=revision.id, model_id="m", model_version="1", model_digest="0",
            is_accepted=True, sop_instance_uids=[], created_at=0,
        )  # fmt: skip
        session.add(decision)
        session.flush()
        session.add(
            ResultObjectRow(
                decision_id=decision.id, kind="sc", sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID, series_instance_uid="1.3", path="p", size=1,
                sha256="0", created_at=0,
            )
        )  # fmt: skip
    object_id = received.add(ds)

    assert index(received) == 1

    assert received.row(object_id).state == "own_result"
    assert received.all(Instance) == []


_NOBODY = dict.fromkeys(
    (
        "patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number",
        "study_date", "study_time", "study_description",
    ),
    "",
)  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        (
            {"Manufacturer": "Pacsight", "SoftwareVersions": ["1.2.0", "pacsight 0.1.0"]},
            "own_result",
        ),
        ({"Manufacturer": "Pacsight", "SoftwareVersions": "1"}, "indexed"),  # a sample
        ({"Manufacturer": "Pacsight"}, "indexed"),  # an uploaded picture
        ({"Manufacturer": "Other", "SoftwareVersions": "pacsight 0.1.0"}, "indexed"),
    ],
)
def test_result_of_another_installation_is_known_by_its_header(
    on_sqlite: Received, attributes: dict[str, Any], state: str
) -> None:
    object_id = on_sqlite.add(radiograph(**attributes))
    index(on_sqlite)
    assert on_sqlite.row(object_id).state == state


def test_real_results_are_known_and_what_pacsight_only_wraps_is_not(on_sqlite: Received) -> None:
    picture = picture_to_dicom(np.zeros((64, 48), np.uint8), seed="x", now=results.NOW)
    for wrapped in (results.source(), picture):
        on_sqlite.add(wrapped)
    encoded = results.encode(results.source())
    for result in encoded:
        on_sqlite.add(result.data, raw=True, sop_instance_uid=result.sop_instance_uid)
    index(on_sqlite)
    states = [row.state for row in on_sqlite.all(ReceivedObject)]
    assert states == ["indexed", "indexed", *["own_result"] * len(encoded)]


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
        "1.2.840.99.1",
    ],
)  # fmt: skip
def test_every_encoding_is_read(on_sqlite: Received, syntax: str) -> None:
    ds = radiograph()
    # Private and unknown ones are encoded as PS3.5 section A.4 demands.
    data = data_set_bytes(ds, ExplicitVRLittleEndian if syntax == "1.2.840.99.1" else syntax)
    object_id = on_sqlite.add(data, sop_instance_uid=ds.SOPInstanceUID, transfer_syntax_uid=syntax)
    index(on_sqlite)
    assert (on_sqlite.row(object_id).state, on_sqlite.row(object_id).reason) == ("indexed", None)
    assert on_sqlite.all(Instance)[0].facts["rows"] == 8
    assert on_sqlite.all(Instance)[0].facts["has_pixel_data"] is True


def encapsulated(*fragments: bytes, delimiter: bool = True) -> tuple[str, bytes]:
    ds = radiograph()
    del ds.PixelData
    data = data_set_bytes(ds)
    data += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    for fragment in (b"", *fragments):
        data += struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)) + fragment
    if delimiter:
        data += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return ds.SOPInstanceUID, data


def test_encapsulated_pixel_data_is_followed_to_its_end(on_sqlite: Received) -> None:
    uid, data = encapsulated(b"ab" * 500, b"cd" * 500)
    object_id = on_sqlite.add(data, sop_instance_uid=uid, transfer_syntax_uid=JPEGBaseline8Bit)
    index(on_sqlite)
    assert on_sqlite.row(object_id).state == "indexed"
    assert on_sqlite.all(Instance)[0].facts["has_pixel_data"] is True


@pytest.mark.parametrize("cut", [1, 8, 9, 400, 1010])
def test_encapsulated_pixel_data_cut_anywhere_is_truncated(on_sqlite: Received, cut: int) -> None:
    uid, data = encapsulated(b"ab" * 500, b"cd" * 500)
    object_id = on_sqlite.add(
        data[:-cut], sop_instance_uid=uid, transfer_syntax_uid=JPEGBaseline8Bit
    )
    assert quarantine(on_sqlite, object_id) == "TRUNCATED"


@pytest.mark.parametrize("cut", [1, 30, 64, 70, 80])
def test_data_set_cut_in_or_near_its_pixels_is_truncated(on_sqlite: Received, cut: int) -> None:
    ds = radiograph()
    data = data_set_bytes(ds)[:-cut]
    object_id = on_sqlite.add(data, sop_instance_uid=ds.SOPInstanceUID)
    assert quarantine(on_sqlite, object_id) == "TRUNCATED"


def test_every_cut_of_a_data_set_ends_in_a_state(on_sqlite: Received) -> None:
    ds = radiograph()
    data = data_set_bytes(ds)
    for end in range(0, len(data), 7):
        on_sqlite.add(data[:end], sop_instance_uid=ds.SOPInstanceUID)

    while index(on_sqlite):
        pass

    rows = on_sqlite.all(ReceivedObject)
    assert "received" not in {row.state for row in rows}
    assert {row.reason_code for row in rows if row.state == "quarantined"} <= {
        "TRUNCATED", "HEADER_UNREADABLE", "UID_MISSING", "UID_INVALID",
    }  # fmt: skip
    assert "TRUNCATED" in {row.reason_code for row in rows}


@pytest.mark.parametrize(
    "content", [b"", b"nothing but text, " * 40, bytes(2000), os.urandom(3000)]
)
def test_what_is_no_data_set_is_quarantined(on_sqlite: Received, content: bytes) -> None:
    object_id = on_sqlite.add(content)
    assert quarantine(on_sqlite, object_id) in ("HEADER_UNREADABLE", "TRUNCATED")


@pytest.mark.parametrize("content", [b"", b"DICM", b"no preamble " * 100, bytes(128) + b"DICM"])
def test_what_is_no_part_10_file_is_quarantined(on_sqlite: Received, content: bytes) -> None:
    object_id = on_sqlite.add(content, raw=True)
    assert quarantine(on_sqlite, object_id) == "NOT_PART10"


@pytest.mark.filterwarnings("ignore:.*UI:UserWarning")
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", ["", "\0\0", None])
def test_missing_uid_is_quarantined(on_sqlite: Received, keyword: str, value: str | None) -> None:
    ds = radiograph()
    if value is None:
        delattr(ds, keyword)
    else:
        setattr(ds, keyword, value)
    object_id = on_sqlite.add(ds, sop_instance_uid="1.2.3")
    assert quarantine(on_sqlite, object_id) == "UID_MISSING"


@pytest.mark.filterwarnings("ignore:.*UI:UserWarning")
@pytest.mark.parametrize("value", ["1." + "2" * 63, "../../etc/passwd", "1.2.x", "..."])
def test_uid_that_is_none_is_quarantined(on_sqlite: Received, value: str) -> None:
    object_id = on_sqlite.add(radiograph(StudyInstanceUID=value))
    assert quarantine(on_sqlite, object_id) == "UID_INVALID"


def test_data_set_of_another_instance_than_named_is_quarantined(on_sqlite: Received) -> None:
    object_id = on_sqlite.add(radiograph(), sop_instance_uid="1.2.3.4")
    assert quarantine(on_sqlite, object_id) == "UID_MISMATCH"


def test_missing_segment_is_quarantined(on_sqlite: Received) -> None:
    object_id = on_sqlite.add(radiograph())
    (on_sqlite.spool / SEGMENT).rename(on_sqlite.spool / "another.seg")
    assert quarantine(on_sqlite, object_id) == "SPOOL_MISSING"


def test_spool_that_is_not_mounted_leaves_everything_as_it_is(on_sqlite: Received) -> None:
    on_sqlite.add(radiograph())
    on_sqlite.spool.rename(on_sqlite.spool.with_suffix(".away"))
    with pytest.raises(SpoolError, match="holds nothing"):
        index(on_sqlite)
    on_sqlite.spool.with_suffix(".away").rename(on_sqlite.spool)
    assert index(on_sqlite) == 1


def test_short_segment_is_quarantined(on_sqlite: Received) -> None:
    object_id = on_sqlite.add(radiograph())
    os.truncate(on_sqlite.spool / SEGMENT, 100)
    assert quarantine(on_sqlite, object_id) == "SPOOL_MISSING"


def test_spool_that_cannot_be_read_for_now_leaves_everything_as_it_is(on_sqlite: Received) -> None:
    object_id = on_sqlite.add(radiograph())
    segment = on_sqlite.spool / SEGMENT
    segment.rename(segment.with_suffix(".away"))
    segment.symlink_to(segment)  # ELOOP, as root is refused nothing
    with pytest.raises(SpoolError):
        index(on_sqlite)
    assert on_sqlite.row(object_id).state == "received"

    segment.unlink()
    segment.with_suffix(".away").rename(segment)
    assert index(on_sqlite) == 1
    assert on_sqlite.row(object_id).state == "indexed"


def test_sequences_nested_beyond_reason_are_quarantined(on_sqlite: Received) -> None:
    ds = radiograph()
    del ds.PixelData
    nested = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    object_id = on_sqlite.add(
        data_set_bytes(ds) + nested * 5000, sop_instance_uid=ds.SOPInstanceUID
    )
    assert quarantine(on_sqlite, object_id) == "HEADER_UNREADABLE"


def test_deflated_bomb_is_read_within_its_limit(on_sqlite: Received) -> None:
    ds = radiograph()
    del ds.PixelData
    size = 1 << 28
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = deflate.compress(
        data_set_bytes(ds) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, size)
    )
    zeros = bytes(1 << 24)
    data += b"".join(deflate.compress(zeros) for _ in range(size // len(zeros))) + deflate.flush()
    object_id = on_sqlite.add(
        data,
        sop_instance_uid=ds.SOPInstanceUID,
        transfer_syntax_uid=DeflatedExplicitVRLittleEndian,
    )
    assert index(on_sqlite) == 1
    assert on_sqlite.row(object_id).state == "indexed"


@pytest.mark.parametrize("data", [b"\xff" * 100, zlib.compress(b"x" * 1000)[2:50]])
def test_deflated_data_set_that_is_broken_is_quarantined(on_sqlite: Received, data: bytes) -> None:
    object_id = on_sqlite.add(data, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    assert quarantine(on_sqlite, object_id) in ("HEADER_UNREADABLE", "TRUNCATED")


def test_large_values_are_not_held(on_sqlite: Received) -> None:
    ds = radiograph()
    del ds.PixelData
    data = data_set_bytes(ds)
    size = 256 << 20
    header = struct.pack("<HH2sHL", 0x0099, 0x1001, b"OB", 0, size)
    object_id = on_sqlite.add(data + header, sop_instance_uid=ds.SOPInstanceUID)
    with transaction(on_sqlite.engine) as session:  # a sparse value; nothing is written for it
        session.get_one(ReceivedObject, object_id).size += size
    segment = on_sqlite.spool / SEGMENT
    os.truncate(segment, segment.stat().st_size + size)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, see proc(5)
    before = _peak_kib()
    index(on_sqlite)
    assert on_sqlite.row(object_id).state == "indexed"
    assert _peak_kib() - before < 32 << 10


def _peak_kib() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def test_limit_is_kept_and_the_rest_follows(on_sqlite: Received) -> None:
    association = on_sqlite.association()
    for _ in range(BATCH + 6):
        on_sqlite.add(radiograph(), association=association)
    assert index(on_sqlite, limit=BATCH + 1) == BATCH + 1
    assert index(on_sqlite) == 5
    assert index(on_sqlite) == 0


def test_object_that_the_database_refuses_does_not_hold_up_others(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    received = Received(sqlite_engine, tmp_path)
    ids = [received.add(radiograph(InstanceNumber=number)) for number in range(4)]
    with transaction(sqlite_engine) as session:
        session.execute(
            text(
                "CREATE TRIGGER refuse BEFORE INSERT ON instance"
                f" WHEN NEW.received_object_id = {ids[1]}"
                " BEGIN SELECT RAISE(ABORT, 'will not take it'); END"
            )
        )
    assert index(received) == 4
    states = [received.row(object_id).state for object_id in ids]
    assert states == ["indexed", "quarantined", "indexed", "indexed"]
    assert received.row(ids[1]).reason_code == "LEDGER_REFUSED"


def test_failed_transaction_leaves_objects_for_the_next_run(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    received = Received(sqlite_engine, tmp_path)
    object_id = received.add(radiograph())
    with transaction(sqlite_engine) as session:
        session.execute(text("ALTER TABLE event RENAME TO event_away"))
        session.execute(text("ALTER TABLE instance RENAME TO instance_away"))
    with pytest.raises(LedgerError):
        index(received)
    with transaction(sqlite_engine) as session:
        session.execute(text("ALTER TABLE instance_away RENAME TO instance"))
        session.execute(text("ALTER TABLE event_away RENAME TO event"))
    assert received.all(Study) == []
    assert index(received) == 1
    assert received.row(object_id).state == "indexed"


def test_several_indexers_at_once_index_each_object_once(received: Received) -> None:
    study, association = generate_uid(), received.association()
    repeated = radiograph(StudyInstanceUID=study)
    for number in range(120):
        repeated.InstanceNumber = number % 10
        received.add(repeated, association=association)
        received.add(radiograph(StudyInstanceUID=study), association=association)
    moved: list[int] = []
    errors: list[LedgerError] = []
    start = threading.Barrier(3)

    def run() -> None:
        start.wait()
        try:
            while any(row.state == "received" for row in received.all(ReceivedObject)):
                moved.append(index(received, limit=70))
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert sum(moved) == 240
    states = [row.state for row in received.all(ReceivedObject)]
    assert (states.count("indexed"), states.count("duplicate")) == (130, 110)
    versions = [i for i in received.all(Instance) if i.sop_instance_uid == repeated.SOPInstanceUID]
    assert [i.version for i in versions] == list(range(1, 11))
    assert [i.facts["instance_number"] for i in versions] == list(range(10))
    assert sum(i.is_current for i in versions) == 1
    assert len(received.all(Study)) == 1


def ask_state(received: Received) -> tuple[str | None, list[tuple[int, bool | None]]]:
    (study,) = received.all(Study)
    claims = [(claim.number, claim.is_accepted) for claim in received.all(PatientClaim)]
    return study.held_code, claims


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientID", "4712"), ("PatientName", "Meier^Änne"), ("PatientBirthDate", "19500110")],
)
def test_study_of_two_patients_is_held(received: Received, keyword: str, value: str) -> None:
    study = generate_uid()
    received.add(radiograph(StudyInstanceUID=study))
    received.add(radiograph(StudyInstanceUID=study, **{keyword: value}))
    received.add(radiograph(StudyInstanceUID=study))
    index(received)
    assert ask_state(received) == ("PATIENT_CONFLICT", [(1, True), (2, None)])
    assert [instance.patient_claim for instance in received.all(Instance)] == [1, 2, 1]
    (happened,) = received.all(Event)
    assert (happened.action, happened.subject) == ("study.held", study)
    assert happened.detail == {"code": "PATIENT_CONFLICT", "differ": [keyword]}
    held = received.all(Study)[0].held_reason or ""
    assert keyword in held
    assert value not in held


def test_other_spelling_of_the_patient_holds_nothing(received: Received) -> None:
    study = generate_uid()
    received.add(radiograph(StudyInstanceUID=study))
    received.add(
        radiograph(StudyInstanceUID=study, PatientName="MULLER^ANNE^^^", PatientID="4711 ")
    )
    received.add(radiograph(StudyInstanceUID=study, PatientName="", PatientBirthDate=""))
    index(received)
    assert ask_state(received) == (None, [(1, True)])


def test_patient_corrected_in_all_objects_counts(received: Received) -> None:
    study = generate_uid()
    objects = [radiograph(StudyInstanceUID=study) for _ in range(2)]
    for ds in objects:
        received.add(ds)
    index(received)
    for number, ds in enumerate(objects):
        ds.PatientID = "4712"
        received.add(ds)
        index(received)
        expected = ("PATIENT_CONFLICT", None) if number == 0 else (None, True)
        assert ask_state(received) == (expected[0], [(1, True), (2, expected[1])])
    assert received.all(Study)[0].patient_id == "4712"
    assert [one.action for one in received.all(Event) if one.actor == "patient-guard"] == [
        "study.held",
        "patient.corrected",
        "study.released",
    ]


@pytest.mark.parametrize("is_replayed", [True, False])
def test_study_that_goes_first_does_so_too_when_people_set_it_going(
    received: Received, is_replayed: bool
) -> None:
    uid = generate_uid()
    received.add(radiograph(StudyInstanceUID=uid))
    received.add(radiograph(StudyInstanceUID=uid, PatientID="4711" if is_replayed else "4712"))
    index(received)
    rules = (StatRule(modality="DX"),)
    with transaction(received.engine) as session:
        study = session.query(Study).one()
        if is_replayed:
            replay_study(session, study, now=1.0, stat_rules=rules)
        else:
            with pytest.raises(StudyHeldError):
                replay_study(session, study, now=1.0, stat_rules=rules)
            release_study(
                session, study, patient_id="4712", drops_others=False, now=1.0, stat_rules=rules
            )
    assert [one.is_stat for one in received.all(Revision)] == [True]
