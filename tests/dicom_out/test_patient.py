"""Names leave in the encoding in which they came."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset, FileDataset

from dicom_out.patient import fit_text, read_identity
from dicom_out.results import encode_results
from pacsight.samples import SamplePatient
from tests.dicom_out.factories import MODEL, NOW, as_received, encode, image_result, read, source

NAMES = [
    (("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞=홍^길동"),
    (("", "ISO 2022 IR 87"), "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (("ISO 2022 IR 13", "ISO 2022 IR 87"), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    (("GB18030",), "Wang^XiaoDong=王^小东"),
    (("GBK",), "Wang^XiaoDong=王^小东"),
    (("ISO_IR 192",), "Wang^XiaoDong=王^小東=Ωmega^Ñandú"),
    (("ISO_IR 100",), "Müller^Jörg^^Dr."),
    (("ISO_IR 126",), "Διονυσιος"),
    (("ISO_IR 144",), "Люкceмбypг"),
    ((), "Plain^Ascii"),
]


def raw(ds: FileDataset, keyword: str) -> bytes:
    """The value as it lies in the file, before anything decodes it."""
    return bytes(as_received(ds).get_item(keyword).value)


@pytest.mark.parametrize(("character_set", "name"), NAMES)
def test_names_survive_byte_for_byte_with_their_character_set(
    character_set: tuple[str, ...], name: str
) -> None:
    patient = SamplePatient(patient_name=name, character_set=character_set)
    ds = as_received(source(patient=patient))
    expected = raw(ds, "PatientName")
    for item in encode(ds):
        result = read(item)
        assert bytes(result.get_item("PatientName").value).rstrip() == expected.rstrip()
        assert str(result.PatientName) == name
        assert result.get("SpecificCharacterSet") == ds.get("SpecificCharacterSet")


@pytest.mark.parametrize(("character_set", "name"), NAMES)
def test_free_text_in_the_same_character_set_survives(
    character_set: tuple[str, ...], name: str
) -> None:
    ds = source(patient=SamplePatient(patient_name=name, character_set=character_set))
    text = name.replace("=", " ").replace("^", " ")
    ds.StudyDescription = text
    for item in encode(as_received(ds)):
        assert read(item).StudyDescription == text


def test_a_chinese_name_with_code_extensions_survives() -> None:
    ds = as_received(source(patient=SamplePatient("X", character_set=("", "ISO 2022 IR 58"))))
    # PS3.5 section K.3
    value = b"Wang^XiaoDong=\x1b\x24\x29\x41\xcd\xf5^\x1b\x24\x29\x41\xd0\xa1\xb6\xab"
    value += b" " * (len(value) % 2)
    for keyword in ("PatientName", "StudyDescription"):
        element = ds.get_item(keyword)
        ds[element.tag] = element._replace(value=value, length=len(value))
    for item in encode(ds):
        result = read(item)
        assert bytes(result.get_item("PatientName").value) == value
        assert bytes(result.get_item("StudyDescription").value) == value
        assert list(result.SpecificCharacterSet) == ["", "ISO 2022 IR 58"]


def test_bytes_without_a_declaration_stay_as_they_are() -> None:
    ds = as_received(source(patient=SamplePatient("Plain^Name", character_set=())))
    element = ds.get_item("PatientName")
    value = "Müller^Jörg ".encode()
    ds[element.tag] = element._replace(value=value, length=len(value))
    result = read(encode(ds)[0])
    assert bytes(result.get_item("PatientName").value).rstrip() == value.rstrip()
    assert "SpecificCharacterSet" not in result


def test_an_undefined_character_set_becomes_unicode() -> None:
    ds = source()
    ds.SpecificCharacterSet = "ISO_IR 999"
    result = read(encode(ds)[0])
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert str(result.PatientName) == "Sample^Alice"


def test_a_name_that_its_declared_set_can_not_hold_becomes_unicode() -> None:
    ds = source(patient=SamplePatient("Name^In^Memory=王", character_set=("ISO_IR 100",)))
    result = read(encode(ds)[0])
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert str(result.PatientName) == "Name^In^Memory=王"


def test_our_own_words_fit_the_patient_s_character_set() -> None:
    model = replace(
        MODEL, identity=replace(MODEL.identity, name="Lungenentzündung – Röntgen \\ 肺炎")
    )

    def name_in(character_set: str) -> str:
        ds = source(patient=SamplePatient(character_set=(character_set,)))
        written = encode_results([image_result(ds)], model=model, seed="s", now=NOW)
        return str(read(written[0]).ManufacturerModelName)

    assert name_in("ISO_IR 192") == "Lungenentzündung – Röntgen / 肺炎"
    assert name_in("GB18030") == "Lungenentzündung – Röntgen / 肺炎"
    assert name_in("ISO_IR 126") == "Lungenentzundung - Rontgen /"


def test_a_name_without_any_latin_letter_is_not_left_empty() -> None:
    assert fit_text("肺炎", "ISO_IR 100")


def test_missing_required_attributes_are_empty() -> None:
    ds = source()
    for keyword in ("PatientID", "StudyID", "ReferringPhysicianName"):
        del ds[keyword]
    identity = read_identity(ds)
    assert identity.PatientID == identity.StudyID == ""
    assert "ReferringPhysicianName" in identity


def test_all_patient_and_study_attributes_come_along_but_no_others() -> None:
    ds = source()
    ds.EthnicGroup, ds.PatientWeight, ds.AdditionalPatientHistory = "x", 61.5, "cough"
    ds.OtherPatientIDs = ["A", "B"]
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.3", "1.2.3.4"
    reference.add_new(0x00080000, "UL", 40)
    ds.ReferencedStudySequence = [reference]
    ds.ProcedureCodeSequence = []
    ds.add_new(0x00091001, "LO", "private")
    result = read(encode(ds)[1])
    assert result.PatientWeight == 61.5
    assert result.AdditionalPatientHistory == "cough"
    assert 0x00091001 not in result
    assert "KVP" not in result
    assert result.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert 0x00080000 not in result.ReferencedStudySequence[0]  # a retired group length
    assert "ProcedureCodeSequence" not in result  # empty


def test_what_is_out_of_form_is_left_out_and_only_its_keyword_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ds = source()
    ds.PatientIdentityRemoved = "YES"
    with warnings.catch_warnings(action="ignore"):
        ds.Occupation = "x" * 70
        ds.AccessionNumber = "longer than sixteen characters"
    del ds.SpecificCharacterSet
    ds.StudyDescription = "Röntgen"
    with caplog.at_level("WARNING"):
        identity = read_identity(ds)
    left_out = ("Occupation", "StudyDescription", "PatientIdentityRemoved")
    assert not any(keyword in identity for keyword in left_out)
    assert identity.AccessionNumber == ds.AccessionNumber
    assert identity.PatientName == ds.PatientName
    (said,) = (one.getMessage() for one in caplog.records if one.name == "dicom_out.patient")
    assert all(keyword in said for keyword in left_out)
    assert "ntgen" not in said
    ds.DeidentificationMethod = "Blanked"
    assert read_identity(ds).PatientIdentityRemoved == "YES"


@pytest.mark.parametrize(("sex", "expected"), [("M", "M"), ("U", ""), ("0000", ""), ("", "")])
def test_a_sex_that_the_standard_does_not_know_is_left_empty(sex: str, expected: str) -> None:
    ds = source()
    ds.PatientSex = sex
    assert read_identity(ds).PatientSex == expected
