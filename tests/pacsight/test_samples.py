"""Samples look like what they claim to be, and are complete DICOM objects."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pacsight.phantom import ct_slice, radiograph
from pacsight.samples import SamplePatient, chest_radiograph, ct_series, write_sample_studies
from tests.peers.process import program


def saved(ds: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_person() -> None:
    one = chest_radiograph(7, consolidation=True, rows=96, columns=80)
    same = chest_radiograph(7, consolidation=True, rows=96, columns=80)
    other = chest_radiograph(8, consolidation=True, rows=96, columns=80)
    assert saved(one) == saved(same)
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.PixelData != other.PixelData


def test_lungs_are_darker_than_heart_and_abdomen() -> None:
    picture = radiograph(1, consolidation=False, rows=256, columns=208)
    lung = picture[115:140, 140:165].mean()
    spine = picture[115:140, 98:110].mean()
    abdomen = picture[225:245, 40:80].mean()
    assert lung < 0.6 * spine
    assert lung < 0.6 * abdomen


def test_a_consolidation_makes_one_lower_field_denser_and_spares_the_upper_ones() -> None:
    clear = radiograph(2, consolidation=False, rows=256, columns=208).astype(float)
    dense = radiograph(2, consolidation=True, rows=256, columns=208).astype(float)
    gain = dense - clear
    lower = [gain[130:160, 50:85].mean(), gain[130:160, 120:155].mean()]
    upper = [gain[40:70, 60:85].mean(), gain[40:70, 123:148].mean()]
    assert max(lower) > min(lower) + 500
    assert max(lower) > max(upper) + 500


def test_monochrome1_stores_the_inverted_picture() -> None:
    plain = chest_radiograph(3, consolidation=False, rows=64, columns=52).pixel_array
    inverted = chest_radiograph(
        3, consolidation=False, rows=64, columns=52, photometric="MONOCHROME1", modality="CR"
    )
    assert inverted.PhotometricInterpretation == "MONOCHROME1"
    assert np.array_equal(4095 - inverted.pixel_array.astype(int), plain)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (7, 1), (40, 333)])
def test_any_size_can_be_drawn(rows: int, columns: int) -> None:
    assert radiograph(1, consolidation=True, rows=rows, columns=columns).shape == (rows, columns)


def test_ct_slices_hold_air_tissue_and_bone_in_hounsfield_units() -> None:
    image = ct_slice(4, 0.5)
    assert image[0, 0] < -900
    assert image[70, 25] < -700
    assert 0 < image[60, 70] < 90
    assert image.max() > 200


def test_a_ct_series_is_one_series_with_regular_positions() -> None:
    series = ct_series(4, slices=5, rows=32, columns=32)
    assert len({ds.SeriesInstanceUID for ds in series}) == 1
    assert len({ds.SOPInstanceUID for ds in series}) == 5
    assert [float(ds.ImagePositionPatient[2]) for ds in series] == [0, -5, -10, -15, -20]


def test_names_survive_in_their_character_set() -> None:
    patient = SamplePatient(patient_name="Müller^Jörg", character_set=("ISO_IR 100",))
    ds = chest_radiograph(1, consolidation=False, rows=8, columns=8, patient=patient)
    raw = saved(ds)
    assert "Müller^Jörg".encode("latin-1") in raw
    assert str(pydicom.dcmread(io.BytesIO(raw)).PatientName) == "Müller^Jörg"


@pytest.mark.peer
def test_dciodvfy_finds_no_error_in_any_sample(tmp_path: Path) -> None:
    dciodvfy = program("dciodvfy")
    folders = write_sample_studies(tmp_path)
    assert len(folders) == 4
    dx_inverted = chest_radiograph(
        9, consolidation=False, rows=64, columns=52, photometric="MONOCHROME1"
    )
    dx_inverted.save_as(folders[0] / "inverted.dcm", enforce_file_format=True)
    for path in sorted(tmp_path.rglob("*.dcm")):
        done = subprocess.run(
            [dciodvfy, "-new", str(path)], capture_output=True, text=True, check=False
        )
        report = done.stdout + done.stderr
        assert "Error" not in report, f"{path.name}: {report}"
