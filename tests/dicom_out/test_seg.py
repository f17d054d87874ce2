"""Segmentations: every voxel at its place for every geometry, types, codes, frames."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from dicom_out.model_result import ResultObject, VolumeResult
from dicom_out.profile import Profile
from dicom_out.results import encode_volume
from tests.dicom_out.factories import MODEL, NOW, read
from tests.dicom_out.volumes import (
    COLUMNS,
    ROWS,
    every_geometry,
    in_order,
    masks_of,
    mr_series,
    places,
    volume_result,
)
from tests.peers.process import missing, program

GEOMETRIES = every_geometry()
PROFILES = {
    "binary": Profile(name="a"),
    "binary-kept": Profile(name="b", empty_frames="keep"),
    "labelmap": Profile(name="c", seg="labelmap"),
    "labelmap-kept": Profile(name="d", seg="labelmap", empty_frames="keep"),
}


def encode(result: VolumeResult, profile: Profile = PROFILES["binary"]) -> list[ResultObject]:
    return encode_volume(result, model=MODEL, seed="s", now=NOW, profile=profile)


@cache
def written(geometry: str, profile: str = "binary") -> tuple[ResultObject, ...]:
    return tuple(encode(GEOMETRIES[geometry], PROFILES[profile]))


def segmentation_of(geometry: str, profile: str = "binary") -> Dataset:
    return read(next(item for item in written(geometry, profile) if item.kind == "seg"))


def segmentation(result: VolumeResult, profile: Profile = PROFILES["binary"]) -> Dataset:
    (item,) = (item for item in encode(result, profile) if item.kind == "seg")
    return read(item)


def drawn(ds: Dataset) -> dict[int, np.ndarray]:
    """Where the voxels of each segment lie, read by the attributes alone: LPS mm."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, np.float64)
    down, across = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    found: dict[int, list[np.ndarray]] = {}
    for frame, group in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, np.float64)
        for value in np.unique(frame[frame > 0]):
            number = int(value)
            if ds.SegmentationType == "BINARY":
                holder = group if "SegmentIdentificationSequence" in group else shared
                number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            rows, columns = np.nonzero(frame == value)
            found.setdefault(number, []).append(
                corner
                + np.outer(columns, cosines[:3] * across)
                + np.outer(rows, cosines[3:] * down)
            )
    return {number: in_order(np.concatenate(points)) for number, points in found.items()}


@pytest.mark.parametrize(
    ("geometry", "profile"),
    [(geometry, profile) for geometry in GEOMETRIES for profile in ("binary", "labelmap")]
    + [("enhanced-mr", "binary-kept"), ("enhanced-mr", "labelmap-kept")],
)
def test_every_voxel_lies_where_the_mask_had_it(geometry: str, profile: str) -> None:
    result = GEOMETRIES[geometry]
    ds = segmentation_of(geometry, profile)
    found = drawn(ds)
    present = [part.mask for part in result.prediction.segments if part.mask.any()]
    assert len(found) == len(present)
    for number, mask in enumerate(present, 1):
        np.testing.assert_allclose(found[number], places(result, mask), atol=1e-6)
    slices = len(result.display)
    if profile == "labelmap-kept":
        assert ds.NumberOfFrames == slices
    if profile == "binary-kept":
        assert ds.NumberOfFrames == slices * len(present)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_each_frame_names_the_slice_that_it_lies_on(geometry: str) -> None:
    result = GEOMETRIES[geometry]
    ds = segmentation_of(geometry)
    by_place = {}
    for index in range(len(result.display)):
        source, frame = result.place_of(index)
        holder = source
        if frame is not None:
            group = source.PerFrameFunctionalGroupsSequence[frame - 1]
            holder = group.PlanePositionSequence[0]
        by_place[tuple(holder.ImagePositionPatient)] = (source.SOPInstanceUID, frame)
    for group in ds.PerFrameFunctionalGroupsSequence:
        (named,) = group.DerivationImageSequence[0].SourceImageSequence
        place = tuple(group.PlanePositionSequence[0].ImagePositionPatient)
        frame = named.get("ReferencedFrameNumber")
        assert by_place[place] == (named.ReferencedSOPInstanceUID, frame)
    (series,) = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == result.sources[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
        source.SOPInstanceUID for source in result.sources
    }
    assert (ds.Rows, ds.Columns) == (ROWS, COLUMNS)
    assert ds.FrameOfReferenceUID == result.sources[0].FrameOfReferenceUID


@pytest.mark.peer
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_dcmqi_and_dciodvfy_read_the_same_voxels(geometry: str, tmp_path: Path) -> None:
    reader = Path(sysconfig.get_path("scripts")) / "segimage2itkimage"
    if not reader.exists():
        missing("dcmqi")
    result = GEOMETRIES[geometry]
    path = tmp_path / "seg.dcm"
    path.write_bytes(next(item.data for item in written(geometry) if item.kind == "seg"))
    said = run(program("dciodvfy"), "-new", path)
    assert not re.findall("^Error.*", said, re.MULTILINE)
    said = run(
        reader, "--inputDICOM", path, "--outputDirectory", tmp_path, "--outputType", "nii",
        "--prefix", "m",
    )  # fmt: skip
    masks = [part.mask for part in result.prediction.segments if part.mask.any()]
    for number, mask in enumerate(masks, 1):
        image = nibabel.load(tmp_path / f"m-{number}.nii.gz")
        voxels = np.argwhere(np.asarray(image.dataobj) > 0)
        ras = voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
        lps = in_order(ras * [-1, -1, 1])
        np.testing.assert_allclose(lps, places(result, mask), atol=1e-3)


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def test_segments_are_coded_and_coloured_as_the_model_says() -> None:
    for profile in ("binary", "labelmap"):
        ds = segmentation_of("ct", profile)
        parts = [part for part in ds.SegmentSequence if part.SegmentNumber > 0]
        assert list(ds.SegmentSequence)[:2] == parts  # a background comes last
        liver, lesion = parts
        assert liver.SegmentLabel == "Liver"
        assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
        assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
        assert "AnatomicRegionSequence" not in liver
        assert lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert lesion.AnatomicRegionSequence[0].CodeValue == "10200004"
        wanted = highdicom.color.CIELabColor.from_rgb(221, 130, 101)
        assert tuple(liver.RecommendedDisplayCIELabValue) == wanted.value
        assert all(part.TrackingUID and part.TrackingID for part in parts)
    montage = next(one for one in encode(GEOMETRIES["ct"]) if one.kind == "sc")
    picture = read(montage).pixel_array
    assert (picture == (221, 130, 101)).all(axis=2).any()


@pytest.mark.parametrize("profile", ["binary", "labelmap"])
def test_another_day_changes_dates_only(profile: str) -> None:
    one = written("enhanced-mr", profile)
    two = encode_volume(
        GEOMETRIES["enhanced-mr"], model=MODEL, seed="s", now=NOW + timedelta(days=1),
        profile=PROFILES[profile],
    )  # fmt: skip
    for mine, yours in zip(map(read, one), map(read, two), strict=True):
        different = {element.keyword for element in mine if element != yours[element.tag]}
        assert different
        assert all("Date" in word or "Time" in word for word in different)


def test_types_are_what_the_profile_asks_for() -> None:
    binary, labelmap = (segmentation_of("mr-oblique", name) for name in ("binary", "labelmap"))
    assert (binary.SOPClassUID, binary.SegmentationType) == (SegmentationStorage, "BINARY")
    assert labelmap.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert binary.SOPInstanceUID != labelmap.SOPInstanceUID
    tracked = [{p.TrackingUID for p in ds.SegmentSequence if "TrackingUID" in p}
               for ds in (binary, labelmap)]  # fmt: skip
    assert tracked[0] == tracked[1]


def test_overlapping_segments_stay_binary() -> None:
    sources = mr_series()
    first, second = masks_of(9, ROWS, COLUMNS)
    result = volume_result(sources, (first, second | first))
    ds = segmentation(result, PROFILES["labelmap"])
    assert ds.SegmentationType == "BINARY"
    assert ds.SegmentsOverlap == "YES"
    np.testing.assert_allclose(drawn(ds)[2], places(result, first | second), atol=1e-6)


def test_report_without_segmentation_outlines_every_slice() -> None:
    result = GEOMETRIES["mr-oblique"]
    sr, sc, *_ = encode(result, Profile(name="x", seg="none"))
    assert (sr.kind, sc.kind) == ("sr", "sc")
    text = read(sr).to_json()
    assert "1.2.840.10008.5.1.4.1.1.66" not in text
    slices = sum(int(part.mask.any(axis=(1, 2)).sum()) for part in result.prediction.segments)
    assert text.count('"POLYLINE"') == slices


def test_series_without_a_frame_of_reference_gets_none() -> None:
    sources = mr_series()
    for ds in sources:
        del ds.FrameOfReferenceUID
    result = volume_result(sources, masks_of(9, ROWS, COLUMNS))
    assert {item.kind for item in encode(result)} == {"sr", "sc"}


def test_slices_with_a_rounded_orientation_or_no_thickness_are_taken() -> None:
    sources = mr_series()
    for number, ds in enumerate(sources):
        ds.SliceThickness = ""
        del ds.SpacingBetweenSlices
        if number % 2:
            ds.ImageOrientationPatient = [round(float(v), 5) for v in ds.ImageOrientationPatient]
    result = volume_result(sources, masks_of(9, ROWS, COLUMNS))
    measures = segmentation(result).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(3.5)


def test_regions_of_frames_name_their_frame() -> None:
    (sr, *_), frames = written("enhanced-mr"), GEOMETRIES["enhanced-mr"].frames
    named = {
        int(item.ReferencedFrameNumber)
        for element in read(sr).iterall()
        if element.keyword == "ReferencedSOPSequence"
        for item in element.value
        if "ReferencedFrameNumber" in item
    }
    assert named
    assert named <= set(frames)


def test_standard_objects_are_shared_by_profiles_that_agree_on_them() -> None:
    result = GEOMETRIES["ct"]
    standard = {item.kind: item for item in written("ct")}
    labelmap = {item.kind: item for item in written("ct", "labelmap")}
    assert standard["sc"] == labelmap["sc"]
    assert standard["seg"].sop_instance_uid != labelmap["seg"].sop_instance_uid
    assert standard["sr"].sop_instance_uid != labelmap["sr"].sop_instance_uid
    assert labelmap["seg"].sop_instance_uid in read(labelmap["sr"]).to_json()
    unicode = encode(result, replace_profile(character_set="utf-8"))
    assert all(read(item).SpecificCharacterSet == "ISO_IR 192" for item in unicode)
    assert {item.sop_instance_uid for item in unicode}.isdisjoint(
        item.sop_instance_uid for item in standard.values()
    )


def replace_profile(**values: str) -> Profile:
    return PROFILES["binary"].model_copy(update=values)


def test_masks_of_one_more_slice_are_refused() -> None:
    result = GEOMETRIES["enhanced-mr"]
    with pytest.raises(Exception, match="slices"):
        encode(replace(result, frames=result.frames[1:]))
