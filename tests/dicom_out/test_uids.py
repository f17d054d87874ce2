import pytest

from dicom_out.uids import derive_uid, is_valid_uid
from ledger.product import IMPLEMENTATION_CLASS_UID


def test_the_same_parts_give_the_same_uid_and_other_parts_another() -> None:
    assert derive_uid("a", "b") == derive_uid("a", "b")
    assert len({derive_uid("a", "b"), derive_uid("b", "a"), derive_uid("ab"), derive_uid("a")}) == 4
    assert derive_uid("ab", "c") != derive_uid("a", "bc")


def test_derived_uids_are_uuids_of_version_8_below_2_25() -> None:
    for number in range(200):
        uid = derive_uid("seed", str(number))
        prefix, root, decimal = uid.split(".")
        assert (prefix, root) == ("2", "25")
        value = int(decimal)
        assert value < 2**128
        assert value >> 76 & 0xF == 8
        assert value >> 62 & 0x3 == 2
        assert is_valid_uid(uid)


@pytest.mark.parametrize("text", ["", "1", "1.02", "1..2", ".1", "1.2.", "1.a", "1." + "2" * 63])
def test_what_is_no_uid_is_told(text: str) -> None:
    assert not is_valid_uid(text)


def test_our_implementation_class_uid_is_one() -> None:
    assert is_valid_uid(IMPLEMENTATION_CLASS_UID)
