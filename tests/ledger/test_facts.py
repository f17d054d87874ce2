from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from sqlalchemy import Engine, select

from ledger.database import reading, transaction
from ledger.domain import InstanceFacts, PatientFacts
from ledger.errors import UidInvalidError, UidMissingError, UnreadableError
from ledger.facts import MAX_TEXT, read_facts
from ledger.patient_age import years_of
from ledger.tables import Study

UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Encode one element, Explicit VR Little Endian, short form unless it doesn't fit."""
    if len(value) % 2:
        value += b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "UN", "UT", "SQ"):
        return head + struct.pack("<HL", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def header(*elements: tuple[int, str, bytes]) -> Dataset:
    """Return the data set of raw elements, the identifying UIDs added if they are not given."""
    given_tags = {tag for tag, _, _ in elements}
    uids = [
        (tag, "UI", b"1.2.3\0")
        for tag in (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
        if tag not in given_tags
    ]
    data = b"".join(element(*one) for one in sorted([*elements, *uids]))
    with warnings.catch_warnings(action="ignore"):
        return read_dataset(io.BytesIO(data), False, True)


def patient(ds: Dataset) -> PatientFacts:
    return read_facts(ds)[1]


def facts(ds: Dataset) -> InstanceFacts:
    return read_facts(ds)[0]


def test_facts_of_a_written_file_are_read_back() -> None:
    ds = Dataset()
    for keyword in UIDS:
        setattr(ds, keyword, generate_uid())
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.SeriesDescription, ds.SeriesNumber, ds.InstanceNumber = "Thorax p.a.", 4, 12
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "AXIAL"]
    ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.BitsStored = "MONOCHROME1", 1, 12
    ds.Rows, ds.Columns, ds.NumberOfFrames = 2048, 1024, 1
    ds.BurnedInAnnotation, ds.Manufacturer = "NO", "Maker"
    ds.PatientAge, ds.PatientSex, ds.PatientID = "044Y", "F", "4711"
    ds.PatientName, ds.PatientBirthDate = "Doe^Jane", "19800101"
    ds.AccessionNumber, ds.StudyDate, ds.StudyTime = "A1", "20260101", "101112.5"
    ds.StudyDescription = "Chest"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, -2, 3.5], [1, 0, 0, 0, 0, -1]
    ds.PixelSpacing, ds.SliceThickness, ds.FrameOfReferenceUID = [0.5, 0.7], 2.5, "1.2.9"
    ds.AcquisitionNumber, ds.ImagesInAcquisition, ds.EchoNumbers = 3, 40, 2
    ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = 5, 20
    ds.NumberOfStudyRelatedSeries, ds.NumberOfStudyRelatedInstances = 2, 80
    ds.NumberOfSeriesRelatedInstances, ds.RequestedProcedurePriority = 40, "STAT"
    ds.ContrastBolusAgent, ds.ConvolutionKernel = "Gadolinium", "B30f"
    ds.BitsAllocated, ds.HighBit, ds.PixelRepresentation = 16, 11, 0
    ds.PixelData = b"\0\0"
    expected = InstanceFacts(
        study_instance_uid=ds.StudyInstanceUID,
        series_instance_uid=ds.SeriesInstanceUID,
        sop_instance_uid=ds.SOPInstanceUID,
        sop_class_uid=ds.SOPClassUID,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        modality="DX",
        body_part_examined="CHEST",
        view_position="PA",
        series_description="Thorax p.a.",
        series_number=4,
        instance_number=12,
        image_type=("ORIGINAL", "PRIMARY", "", "AXIAL"),
        photometric_interpretation="MONOCHROME1",
        samples_per_pixel=1,
        bits_stored=12,
        bits_allocated=16,
        rows=2048,
        columns=1024,
        number_of_frames=1,
        has_pixel_data=True,
        burned_in_annotation="NO",
        manufacturer="Maker",
        patient_age="044Y",
        patient_sex="F",
        patient_age_years=44.0,
        acquisition_number=3,
        echo_number=2,
        temporal_position=5,
        frame_of_reference_uid="1.2.9",
        image_position=(1.0, -2.0, 3.5),
        image_orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
        pixel_spacing_mm=(0.5, 0.7),
        slice_thickness_mm=2.5,
        contrast_agent="Gadolinium",
        convolution_kernel="B30f",
        images_in_acquisition=40,
        number_of_temporal_positions=20,
        number_of_study_related_series=2,
        number_of_study_related_instances=80,
        number_of_series_related_instances=40,
        requested_procedure_priority="STAT",
    )
    person = PatientFacts(
        "4711", "Doe^Jane", "19800101", "F", "A1", "20260101", "101112.5", "Chest"
    )
    file = io.BytesIO()
    dcmwrite(file, ds, implicit_vr=False, little_endian=True)
    ds.file_meta = Dataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert read_facts(ds) == (expected, person)  # in memory
    file.seek(0)
    read = dcmread(file, force=True)
    read.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert read_facts(read) == (expected, person)
    assert InstanceFacts.from_json(expected.to_json()) == expected


def test_place_of_the_first_frame_comes_from_functional_groups() -> None:
    measures, place, shared, frame = (Dataset() for _ in range(4))
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.6], 3
    place.ImagePositionPatient = [1, 2, 3]
    shared.PixelMeasuresSequence, frame.PlanePositionSequence = [measures], [place]
    ds = header()
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], [frame]
    read = facts(ds)
    assert (read.pixel_spacing_mm, read.slice_thickness_mm) == ((0.5, 0.6), 3.0)
    assert read.image_position == (1.0, 2.0, 3.0)
    assert read.image_orientation == ()


def test_broken_numbers_and_sequences_are_absent() -> None:
    read = facts(header((0x00200032, "DS", b"1\\x\\3"), (0x52009229, "UN", b"junk")))
    assert (read.image_position, read.pixel_spacing_mm) == ((), ())


@pytest.mark.parametrize(
    ("age", "born", "studied", "years"),
    [
        ("006M", "", "", 0.5),
        ("", "20200101", "20260101", 6.0),
        ("", "1.1.2020", "20260101", None),
        ("", "20270101", "20260101", None),
        ("44", "", "", None),
    ],
)
def test_age_in_years(age: str, born: str, studied: str, years: float | None) -> None:
    assert years_of(age, born, studied) == (years if years is None else pytest.approx(years, 1e-3))


def test_header_with_nothing_but_uids_has_empty_facts() -> None:
    only = facts(header())
    assert only == InstanceFacts("1.2.3", "1.2.3", "1.2.3", "1.2.3", "")
    assert patient(header()) == PatientFacts()


@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        ("", b"Doe^Jane", "Doe^Jane"),
        ("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
        ("ISO_IR 192", "Wáng^王小东".encode(), "Wáng^王小东"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        ("GBK", "王^小东".encode("gbk"), "王^小东"),
        # PS3.5 annex H.3.1, I.2 and K.2
        (
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "Yamada^Tarou=山田^太郎",
        ),
        (
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            "Hong^Gildong=洪^吉洞",
        ),
        (
            "\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
            "Zhang^XiaoDong=张^小东",
        ),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        # broken, and still a name
        ("", "Müller^Änne".encode(), "Müller^Änne"),
        ("", b"M\xfcller", "Müller"),
        ("ISO_IR 192", b"M\xfcller", "Müller"),
        ("NO SUCH SET", b"M\xfcller", "Müller"),
        ("\\\\", b"M\xfcller", "Müller"),
        ("ISO_IR 100", b"A\x1b$BC", "AC"),
    ],
)
def test_names_are_decoded(charset: str, name: bytes, expected: str) -> None:
    ds = header((0x00080005, "CS", charset.encode()), (0x00100010, "PN", name))
    assert patient(ds).patient_name == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"A\0B", "AB"),
        (b"\0\0\0\0", ""),
        (b"  A B  ", "A B"),
        (b"A\r\nB", "A  B"),
        (b"first\\second", "first"),
        (b"\\second", "second"),
        (b"\x07\x1f\x7fA", "A"),
        (b"x" * 60_000, "x" * MAX_TEXT),
        (b"", ""),
    ],
)
def test_text_is_cleaned(value: bytes, expected: str) -> None:
    assert patient(header((0x00100020, "LO", value))).patient_id == expected


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("US", b"\x00\x02", 512),
        ("US", b"\x00\x02\x00\x03", 512),
        ("UN", b"\x00\x02", 512),
        ("UL", b"\x00\x02\x00\x00", 512),
        ("SS", b"\x00\x02", 512),
        ("IS", b"512", 512),
        ("LO", b"512", 512),
        ("DS", b"512.0", 512),
        ("DS", b"512.7", 0),
        ("IS", b" 512\\3 ", 512),
        ("IS", b"+512", 512),
        ("IS", b"99999999999", 0),
        ("IS", b"9" * 5000, 0),
        ("IS", b"abc", 0),
        ("US", b"", 0),
        ("SQ", b"", 0),
        ("FD", b"\0\0\0\0\0\0\x80\x40", 0),
    ],
)
def test_numbers_of_any_vr_are_read_or_zero(vr: str, value: bytes, expected: int) -> None:
    assert facts(header((0x00280010, vr, value))).rows == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"", UidMissingError),
        (b"\0\0", UidMissingError),
        (b"1." + b"2" * 64, UidInvalidError),
        (b"1.2.A", UidInvalidError),
        (b"../../../etc", UidInvalidError),
        (b"....", UidInvalidError),
        (b"1.2\n.3", UidInvalidError),
    ],
)
@pytest.mark.parametrize("tag", [0x00080016, 0x00080018, 0x0020000D, 0x0020000E])
def test_identifying_uid_that_is_none_is_refused(
    tag: int, value: bytes, error: type[UnreadableError]
) -> None:
    with pytest.raises(error) as caught:
        read_facts(header((tag, "UI", value)))
    assert caught.value.code in ("UID_MISSING", "UID_INVALID")
    assert str(caught.value).endswith(".")


def test_longest_uid_and_padding_are_fine() -> None:
    uid = "1." + "2" * 62
    assert facts(header((0x0020000D, "UI", uid.encode() + b"\0\0"))).study_instance_uid == uid


def test_sequence_where_text_belongs_is_absent() -> None:
    ds = header()
    ds.add_new(0x00080060, "SQ", [Dataset()])
    assert facts(ds).modality == ""


def test_values_in_memory_may_be_of_any_type() -> None:
    ds = header()
    ds.Rows = [512, 3]
    ds.Modality = MultiValue(str, ["CR", "DX"])
    ds.PatientName = None
    ds.InstanceNumber = "7"
    assert (facts(ds).rows, facts(ds).modality, facts(ds).instance_number) == (512, "CR", 7)
    assert patient(ds).patient_name == ""


def test_pixel_data_is_not_touched() -> None:
    ds = header((0x7FE00010, "OB", b"\xff" * 100))
    assert facts(ds).has_pixel_data
    assert type(ds.get_item(0x7FE00010)).__name__ == "RawDataElement"


VRS = st.sampled_from(
    ["CS", "LO", "PN", "UI", "US", "IS", "DS", "SQ", "UN", "OB", "DA", "FD", "ZZ"]
)
TAGS = st.sampled_from([
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080020, 0x00080030, 0x00080050,
    0x00080060, 0x0008103E, 0x00100010, 0x00100020, 0x00100040, 0x00101010, 0x00180015,
    0x0020000D, 0x0020000E, 0x00200011, 0x00280002, 0x00280004, 0x00280008, 0x00280010,
    0x00280301,
])  # fmt: skip


@given(st.dictionaries(TAGS, st.tuples(VRS, st.binary(max_size=80)), max_size=8))
def test_no_header_raises_anything_but_coded_errors(
    elements: dict[int, tuple[str, bytes]],
) -> None:
    try:
        ds = header(*((tag, vr, value) for tag, (vr, value) in elements.items()))
    except (
        BytesLengthException,
        NotImplementedError,
        OSError,
        TypeError,
        ValueError,
    ):  # pydicom can't parse it at all
        reject()
    try:
        instance, person = read_facts(ds)
    except (UidMissingError, UidInvalidError):
        return
    for value in _texts(instance) + _texts(person):
        assert "\0" not in value
        assert len(value) <= MAX_TEXT
        value.encode()


def _texts(record: Any) -> list[str]:
    values = [getattr(record, name) for name in record.__slots__]
    return [value for value in values if isinstance(value, str)]


@pytest.mark.parametrize("value", ["東" * 60_000, "𠮷" * 60_000, "x" * 60_000, "a\0b"])
def test_hostile_text_fits_every_database(engine: Engine, value: str) -> None:
    ds = header(
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00080050, "UT", value.encode()),
        (0x00100010, "UT", value.encode()),
        (0x00100020, "UT", value.encode()),
    )
    person = patient(ds)
    with transaction(engine) as session:
        session.add(
            Study(
                study_instance_uid="1.2", first_received_at=0, last_received_at=0,
                **{name: getattr(person, name) for name in PatientFacts.__slots__},
            )
        )  # fmt: skip
    with reading(engine) as session:
        assert session.scalar(select(Study.patient_id)) == person.patient_id
