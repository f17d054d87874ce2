"""Series and NIfTI files as volumes: order, geometry, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from imagecodecs import htj2k_encode
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedUSVolumeStorage,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from inference.errors import NotAnImageError, NotAVolumeError
from inference.nifti import read_nifti
from inference.volume import Volume, read_series, to_canonical
from pacsight.samples import ct_series
from tests.inference.stacks import StackMade
from tests.peers.dcmtk import dcmtk

Encode = Callable[[FileDataset], FileDataset]


def read(slices: list[FileDataset]) -> Volume:
    files = []
    for ds in slices:
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        file.seek(0)
        files.append(file)
    return read_series(files)


def test_slices_are_ordered_by_place_and_hold_hounsfield_units() -> None:
    slices = ct_series(2, slices=5, rows=32, columns=40)
    shuffled = [slices[index] for index in (3, 0, 4, 2, 1)]
    for ds in shuffled:
        ds.InstanceNumber = 100 - ds.InstanceNumber  # says nothing
    volume = read(shuffled)
    reference = highdicom.get_volume_from_series(ct_series(2, slices=5, rows=32, columns=40))
    corners = [np.array([z, y, x, 1.0]) for z in (0, 4) for y in (0, 31) for x in (0, 39)]
    back = np.linalg.inv(reference.affine)
    for corner in corners:
        index = np.rint(back @ volume.affine @ corner)[:3].astype(int)
        z, y, x = corner[:3].astype(int)
        assert volume.array[z, y, x] == reference.array[tuple(index)]
    assert volume.spacing_mm == pytest.approx((5, 350 / 32, 350 / 40), rel=1e-3)
    heights = [float(header.ImagePositionPatient[2]) for header in volume.headers]
    assert heights == sorted(heights)


def _cut(slices: list[FileDataset]) -> None:
    del slices[2]


def _double(slices: list[FileDataset]) -> None:
    slices[2].ImagePositionPatient = slices[1].ImagePositionPatient


def _turn(slices: list[FileDataset]) -> None:
    slices[1].ImageOrientationPatient = [0, 1, 0, -1, 0, 0]


def _move(slices: list[FileDataset]) -> None:
    slices[1].FrameOfReferenceUID = "1.2.3"


def _stretch(slices: list[FileDataset]) -> None:
    slices[1].PixelSpacing = [1, 1]


def _spread(slices: list[FileDataset]) -> None:
    slices[4].ImagePositionPatient[2] = float(slices[4].ImagePositionPatient[2]) - 1.7


def _shear(slices: list[FileDataset]) -> None:
    for number, ds in enumerate(slices):
        ds.ImagePositionPatient = [-175, -175 + 2 * number, -5 * number]


def _strip(slices: list[FileDataset]) -> None:
    del slices[1].ImagePositionPatient


def _skew(slices: list[FileDataset]) -> None:
    slices[1].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def _shrink(slices: list[FileDataset]) -> None:
    slices[1] = ct_series(2, slices=5, rows=16, columns=16)[1]


def _one(slices: list[FileDataset]) -> None:
    del slices[1:]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (_cut, "SLICE_GAP", "1 missing, most behind slice 2 of 4"),
        (_spread, "SLICES_UNEVEN", "from 5.00 to 6.70 mm"),
        (_double, "SLICE_POSITION_DOUBLED", "at one place"),
        (_turn, "ORIENTATIONS_DIFFER", "not parallel"),
        (_move, "FRAMES_OF_REFERENCE_DIFFER", "frames of reference"),
        (_stretch, "PIXEL_SPACINGS_DIFFER", "pixel spacings"),
        (_shear, "GANTRY_TILT", "sheared"),
        (_strip, "GEOMETRY_MISSING", "ImagePositionPatient"),
        (_skew, "GEOMETRY_MISSING", "orientation"),
        (_shrink, "SLICE_SIZES_DIFFER", "different sizes"),
        (_one, "TOO_FEW_SLICES", "fewer than 2"),
    ],
)
def test_slices_that_make_no_volume_are_refused(
    change: Callable[[list[FileDataset]], None], code: str, words: str
) -> None:
    slices = ct_series(2, slices=5, rows=32, columns=40)
    change(slices)
    with pytest.raises(NotAVolumeError, match=words) as refused:
        read(slices)
    assert refused.value.code == code


OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
GEOMETRIES = {
    "axial": (np.eye(3), 1),
    "reversed": (np.eye(3), -1),
    "coronal": (np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]), 1),
    "oblique": (OBLIQUE, 1),
    "oblique and reversed": (OBLIQUE, -1),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("is_enhanced", [False, True])
def test_each_voxel_lies_where_it_was_put(name: str, is_enhanced: bool) -> None:
    axes, direction = GEOMETRIES[name]
    made = StackMade(axes=axes, spacing_mm=(2.5, 0.7, 0.9), corner_mm=(-31.25, 44.5, 107.75))
    order = [0, 3, 1, 4, 2][::direction]
    volume = read([made.enhanced(order)] if is_enhanced else made.slices(order))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, made.values)
    np.testing.assert_allclose(volume.affine, made.affine, atol=1e-6)
    assert volume.spacing_mm == pytest.approx((2.5, 0.7, 0.9), abs=1e-6)
    assert volume.voxel_ml * made.values.size == pytest.approx(2.5 * 0.7 * 0.9 * 5 * 6 * 7 / 1000)
    if is_enhanced:
        assert volume.frame_numbers == tuple(order.index(index) + 1 for index in range(5))
        assert len(set(volume.sop_instance_uids)) == 1
    else:
        assert volume.frame_numbers == ()
        places = [header.ImagePositionPatient for header in volume.headers]
        np.testing.assert_allclose(places, made.places, atol=1e-6)


def test_of_an_enhanced_object_with_phases_the_first_is_read() -> None:
    made = StackMade()
    volume = read([made.enhanced([*range(5), *range(5)], times=[2] * 5 + [1] * 5)])
    assert volume.volumes == 2
    assert volume.frame_numbers == (6, 7, 8, 9, 10)
    np.testing.assert_array_equal(volume.array, made.values)


def test_frames_doubled_without_a_time_are_refused() -> None:
    with pytest.raises(NotAVolumeError) as refused:
        read([StackMade().enhanced([0, 1, 2, 3, 4, 4])])
    assert refused.value.code == "SLICE_POSITION_DOUBLED"


def test_a_loop_without_places_is_refused() -> None:
    loop = StackMade().enhanced(range(5))
    del loop.PerFrameFunctionalGroupsSequence
    with pytest.raises(NotAVolumeError) as refused:
        read([loop])
    assert refused.value.code == "GEOMETRY_MISSING"


def test_real_world_values_of_frames_count_without_a_rescale() -> None:
    made = StackMade()
    ds = made.enhanced(range(5))
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        mapping = Dataset()
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.5, float(number)
        group.RealWorldValueMappingSequence = [mapping]
    shift = np.arange(5).reshape(-1, 1, 1)
    np.testing.assert_allclose(read([ds]).array, made.values * 0.5 + shift)


def _deflated(ds: FileDataset) -> FileDataset:
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds


def _htj2k(syntax: UID, **how: Any) -> Encode:
    """OpenJPH writes RPCL always, so the same stream is of either lossless syntax."""

    def encode(ds: FileDataset) -> FileDataset:
        frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([htj2k_encode(frame, **how) for frame in frames])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = syntax
        return ds

    return encode


def _pydicom(syntax: UID, **how: Any) -> Encode:
    def encode(ds: FileDataset) -> FileDataset:
        ds.compress(syntax, **how)
        return ds

    return encode


def _dcmtk(syntax: UID, *options: str) -> Encode:
    def encode(ds: FileDataset) -> FileDataset:
        with TemporaryDirectory() as folder:
            plain, packed = Path(folder) / "plain.dcm", Path(folder) / "packed.dcm"
            ds.save_as(plain, enforce_file_format=True)
            dcmtk("dcmcjpeg", *options, plain, packed)
            found = dcmread(packed)
        assert found.file_meta.TransferSyntaxUID == syntax
        return found

    return encode


ENCODERS: dict[str, tuple[Encode, int]] = {
    "JPEG lossless": (_dcmtk(JPEGLossless, "+el"), 0),
    "JPEG lossless SV1": (_dcmtk(JPEGLosslessSV1, "+e1"), 0),
    "JPEG-LS": (_pydicom(JPEGLSLossless), 0),
    "JPEG-LS near lossless": (_pydicom(JPEGLSNearLossless, jls_error=2), 2),
    "JPEG 2000": (_pydicom(JPEG2000Lossless), 0),
    "JPEG 2000 with loss": (_pydicom(JPEG2000, j2k_psnr=[80]), 40),
    "HTJ2K": (_htj2k(HTJ2KLossless, reversible=True), 0),
    "HTJ2K RPCL": (_htj2k(HTJ2KLosslessRPCL, reversible=True), 0),
    "HTJ2K with loss": (_htj2k(HTJ2K, reversible=False, level=0.0005), 50),
    "RLE": (_pydicom(RLELossless), 0),
    "deflated": (_deflated, 0),
}
"""How, and by how much of 3,900 values a voxel of noise may differ then."""


@pytest.mark.peer
@pytest.mark.parametrize("name", ENCODERS)
def test_compressed_series_and_frames_hold_the_same_voxels(name: str) -> None:
    encode, loss = ENCODERS[name]
    noise = np.random.default_rng(5).integers(-900, 3000, (5, 64, 64))
    made = StackMade(values=noise.astype(np.int16))
    for objects in (made.slices([3, 0, 4, 1, 2]), [made.enhanced([3, 0, 4, 1, 2])]):
        volume = read([encode(ds) for ds in objects])
        difference = np.abs(volume.array.astype(np.int32) - made.values)
        assert difference.max() <= loss
        assert (difference.max() > 0) == (loss > 0)
        np.testing.assert_allclose(volume.affine, made.affine, atol=1e-6)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("bits", "encode", "loss"),
    [(8, _dcmtk(JPEGBaseline8Bit, "+eb", "+q", "95"), 6),
     (12, _dcmtk(JPEGExtended12Bit, "+ee", "+q", "95"), 60)],
    ids=["JPEG baseline", "JPEG extended"],
)  # fmt: skip
def test_series_with_the_loss_of_jpeg_is_near(bits: int, encode: Encode, loss: int) -> None:
    z, y, x = np.mgrid[0:5, 0:64, 0:64]
    wave = np.sin(x / 9) + np.cos((y + 5 * z) / 7)  # of each slice all values: dcmtk stretches
    wave -= wave.min(axis=(1, 2), keepdims=True)
    wave /= wave.max(axis=(1, 2), keepdims=True)
    made = StackMade(values=np.rint(wave * (2**bits - 1)).astype(np.int16))
    for objects in (made.slices([3, 0, 4, 1, 2]), [made.enhanced([3, 0, 4, 1, 2])]):
        for ds in objects:
            ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, 0
            if bits == 8:
                ds.BitsAllocated, ds.PixelData = 8, ds.pixel_array.astype(np.uint8).tobytes()
                ds["PixelData"].VR = "OB"
        difference = np.abs(read([encode(ds) for ds in objects]).array - made.values)
        assert 0 < difference.max() <= loss


def test_ultrasound_volume_is_refused_because_it_is_not_in_the_patient() -> None:
    ds = StackMade().enhanced(range(5))
    ds.SOPClassUID = EnhancedUSVolumeStorage
    for group in ds.PerFrameFunctionalGroupsSequence:
        place = Dataset()
        place.ImagePositionVolume = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionVolumeSequence = [place]
        del group.PlanePositionSequence
    with pytest.raises(NotAVolumeError, match="ultrasound volume's own") as refused:
        read([ds])
    assert refused.value.code == "GEOMETRY_NOT_OF_PATIENT"


def test_nifti_becomes_lps(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    ras = np.array([[2.0, 0, 0, -7], [0, 3.0, 0, 5], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, ras), tmp_path / "v.nii.gz")
    volume = read_nifti(tmp_path / "v.nii.gz")
    assert volume.array.shape == (4, 3, 2)
    assert volume.array[3, 2, 1] == values[1, 2, 3]
    place = volume.affine @ [3, 2, 1, 1]
    np.testing.assert_allclose(place[:3], [-(2 - 7), -(3 * 2 + 5), 4 * 3 + 1])
    assert volume.spacing_mm == (4, 3, 2)
    assert volume.voxel_ml == pytest.approx(0.024)


@pytest.mark.parametrize(
    "values", [np.zeros((4, 4)), np.zeros((4, 4, 4, 2, 2)), np.full((3, 3, 3), np.nan)]
)
def test_nifti_that_is_no_volume_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(NotAVolumeError):
        read_nifti(tmp_path / "v.nii")


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_of_nifti_with_time_the_first_volume_is_read(tmp_path: Path, name: str) -> None:
    values = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / name)
    volume = read_nifti(tmp_path / name)
    assert volume.volumes == 5
    np.testing.assert_array_equal(volume.array, values[..., 0].transpose(2, 1, 0))
    assert volume.spacing_mm == (4, 3, 2)


@pytest.mark.parametrize("content", [b"", b"not a volume", b"\x1f\x8b\x08\x00 cut"])
def test_damaged_nifti_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.nii.gz"
    path.write_bytes(content)
    with pytest.raises(NotAnImageError):
        read_nifti(path)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_every_orientation_becomes_the_same_and_back(
    axes: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    shape = (4, 5, 6)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, column] = sign * (column + 1.0)
    volume = Volume(np.random.default_rng(0).random(shape).astype(np.float32), affine)
    canonical, restore = to_canonical(volume)
    directions = canonical.affine[:3, :3]
    assert np.argmax(np.abs(directions), axis=0).tolist() == [
        2,
        1,
        0,
    ]
    assert (directions.sum(axis=0) > 0).all()
    for index in [(0, 0, 0), (3, 4, 5), (1, 2, 3)]:
        place = volume.affine @ np.array([*index, 1.0])
        turned = np.rint(np.linalg.solve(canonical.affine, place))[:3].astype(int)
        assert canonical.array[tuple(turned)] == volume.array[index]
    np.testing.assert_array_equal(restore(canonical.array > 0.5), volume.array > 0.5)
