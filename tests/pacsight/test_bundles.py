"""What of one decision goes to whom."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from dicom_out.model_result import ResultObject
from dicom_out.profile import STANDARD, Profile
from pacsight.bundles import UNCOMPRESSED, Addressed, address
from pacsight.errors import SettingsError
from pacsight.settings import Settings, load_settings
from tests.dicom_out.test_seg import GEOMETRIES, encode

ONE = "{name: one, ae_title: A, host: h, port: 1"


def settings(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "pacsight.yaml"
    file.write_text(text)
    return load_settings(file)


def bundle(profile: Profile) -> list[ResultObject]:
    return encode(GEOMETRIES["ct"], profile)


def kinds(objects: list[Addressed], destination: str) -> dict[str, str]:
    return {
        one.item.kind: one.destinations[destination]
        for one in objects
        if destination in one.destinations
    }


def test_without_destinations_the_standard_bundle_and_a_document_are_written() -> None:
    objects = address(Settings(), bundle)
    found = [(one.item.kind, one.item.variant) for one in objects]
    assert set(found) == {("sr", ""), ("seg", ""), ("sc", ""), ("pdf", "")}
    assert not any(one.destinations or one.encodings for one in objects)


def test_each_destination_gets_its_objects_and_shared_ones_are_written_once(
    tmp_path: Path,
) -> None:
    text = f"""
        destinations:
          - {ONE}}}
          - {{name: two, ae_title: B, host: h, port: 1, profile: own}}
          - {{name: three, ae_title: C, host: h, port: 1, profile: pictures}}
        profiles:
          - {{name: own, seg: labelmap, transfer_syntax: rle}}
          - {{name: pictures, sr: false, seg: none, transfer_syntax: jpeg-ls}}
    """
    objects = address(settings(tmp_path, text), bundle)
    written = Counter(one.item.kind for one in objects)
    assert (written["sr"], written["seg"]) == (2, 2)
    pictures = [one for one in objects if one.item.kind == "sc"]
    assert len(pictures) == len(bundle(STANDARD)) - 2  # shared by all three
    plain = dict.fromkeys(("sr", "seg", "sc"), UNCOMPRESSED)
    assert kinds(objects, "one") == plain
    assert kinds(objects, "two") == {**plain, "seg": RLELossless, "sc": RLELossless}
    assert kinds(objects, "three") == {"sc": JPEGLSLossless}
    sc, *_ = pictures
    assert set(sc.encodings) == {RLELossless, JPEGLSLossless}
    for uid, encoded in sc.encodings.items():
        assert encoded.transfer_syntax_uid == uid
        assert encoded.sop_instance_uid == sc.item.sop_instance_uid
        assert encoded.data != sc.item.data
    assert {one.item.variant for one in objects} == {"", "labelmap"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"destinations: [{ONE}, profile: weasiss}}]", "Did you mean 'weasis'?"),
        (f"profiles: [{{name: mine}}]\ndestinations: [{ONE}, profile: min}}]", "'mine'"),
        ("profiles: [{name: ohif}]", "'ohif' is taken"),
        ("profiles: [{name: a, sgr: binary}]", "Did you mean 'sr'?"),
        ("profiles: [{name: a, transfer_syntax: jpeg}]", "profiles.0.transfer_syntax"),
    ],
)
def test_wrong_profiles_are_settings_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(tmp_path, text)
