"""Who is the same patient, and who is not."""

from __future__ import annotations

import pytest

from ledger.patients import Patient, differences, is_renamed

ANNE = Patient("4711", "Müller^Änne", "19500101")


@pytest.mark.parametrize(
    "other",
    [
        Patient("4711", "Müller^Änne", "19500101"),
        Patient(" 4711 ", "MÜLLER^ÄNNE^^^", "1950.01.01"),  # padding, case, ACR-NEMA date
        Patient("4711", "Muller^Anne", "19500101"),  # no accents
        Patient("4711", "Müller^Änne^Maria^Dr.^PhD", "19500101"),  # more is said
        Patient("4711", "Mu\u0308ller^A\u0308nne", "19500101"),  # decomposed
        Patient("4711", "Muller^Anne=ミュラー^アンネ", "19500101"),  # several representations
        Patient("", "Müller^Änne", ""),  # not known is no contradiction
        Patient("4711", "", "19500101"),
        Patient("4711", "Müller", "19500101"),
    ],
)
def test_other_spellings_are_harmless(other: Patient) -> None:
    assert differences(ANNE, other) == differences(other, ANNE) == ()


@pytest.mark.parametrize(
    ("other", "expected", "renamed"),
    [
        (Patient("4712", "Müller^Änne", "19500101"), ("PatientID",), True),  # merged
        (Patient("4711", "Meier^Änne", "19500101"), ("PatientName",), True),  # married
        (Patient("4711", "Müller^Änne", "19500110"), ("PatientBirthDate",), True),  # corrected
        (Patient("4712", "Meier^Änne", "19500101"), ("PatientID", "PatientName"), False),
        (Patient("4712", "Müller^Anna", "19500101"), ("PatientID", "PatientName"), False),
        (Patient("4712", "", ""), ("PatientID",), False),
        (Patient("1", "X^Y", "20000101"), ("PatientID", "PatientBirthDate", "PatientName"), False),
    ],
)
def test_contradictions_are_named(other: Patient, expected: tuple[str, ...], renamed: bool) -> None:
    assert differences(ANNE, other) == expected
    assert is_renamed(ANNE, other) is renamed


def test_name_without_family_name_is_compared_whole() -> None:
    assert differences(Patient(patient_name="^Änne"), Patient(patient_name="^Anne")) == ()
    assert differences(Patient(patient_name="^Änne"), ANNE) == ("PatientName",)


def test_from_json_reads_what_the_ledger_keeps() -> None:
    data = {"patient_id": "4711", "patient_name": "Müller^Änne", "patient_birth_date": "19500101"}
    assert Patient.from_json(data) == ANNE
