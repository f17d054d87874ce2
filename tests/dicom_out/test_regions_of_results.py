"""Boxes, outlined regions and segments of series: what the objects say, and what is refused."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_out.errors import ResultInputError
from dicom_out.model_result import ImageResult, ResultObject, VolumeResult
from dicom_out.overlays import colour_of
from dicom_out.results import encode_results, encode_volume
from ledger.domain import Box, Code, Prediction, Segment
from pacsight.samples import ct_series
from tests.dicom_out.factories import MODEL, NOW, image_result, read, source
from tests.peers.process import program

TUMOUR = Code("108369006", "SCT", "Neoplasm")
VESSEL = Code("59820001", "SCT", "Blood vessel")
ATRIUM = Code("82471001", "SCT", "Left atrium")


def disc(rows: int, columns: int, radius: float = 20.0) -> NDArray[np.bool_]:
    y, x = np.mgrid[:rows, :columns]
    return np.asarray(np.hypot(y + 0.5 - rows / 2, x + 0.5 - columns / 2) < radius)


def boxed_result(ds: Dataset, *boxes: Box) -> ImageResult:
    result = image_result(ds)
    prediction = replace(result.prediction, findings=(), heatmap=None, boxes=boxes)
    return replace(result, prediction=prediction)


def outlined_result(ds: Dataset, mask: NDArray[np.bool_]) -> ImageResult:
    result = image_result(ds)
    segments = (Segment("Vessels", VESSEL, mask),)
    prediction = replace(result.prediction, findings=(), heatmap=None, segments=segments)
    return replace(result, prediction=prediction)


def volume_result(*masks: NDArray[np.bool_]) -> VolumeResult:
    slices = ct_series(3, slices=6)
    shape = (len(slices), slices[0].Rows, slices[0].Columns)
    names = ("Left atrium", "Left ventricle")
    prediction = Prediction(
        model=MODEL.identity,
        sop_instance_uids=tuple(str(ds.SOPInstanceUID) for ds in slices),
        findings=(),
        heatmap=None,
        seconds=0.1,
        segments=tuple(
            Segment(name, Code(f"8247100{n}", "SCT", name), mask, float(mask.sum()) / 1000)
            for n, (name, mask) in enumerate(zip(names, masks, strict=False))
        ),
    )
    return VolumeResult(prediction, tuple(slices), np.full(shape, 90, np.uint8))


def ball(slices: int, rows: int, columns: int) -> NDArray[np.bool_]:
    mask = np.zeros((slices, rows, columns), bool)
    mask[1:4] = disc(rows, columns)
    return mask


def encode(result: ImageResult) -> list[ResultObject]:
    return encode_results([result], model=MODEL, seed="s", now=NOW)


def groups(report: Dataset) -> list[Dataset]:
    return [
        group
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
        for group in item.ContentSequence
    ]


def values(group: Dataset) -> dict[str, tuple[float, str]]:
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: (
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }


def conclusions(report: Dataset) -> list[str]:
    return [
        item.TextValue
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121077"
    ]


def test_report_says_that_a_series_holds_more_than_the_volume_that_was_analysed() -> None:
    result = volume_result(ball(6, 128, 128))
    said = {}
    for left_out in (0, 6):
        written = encode_volume(replace(result, left_out=left_out), model=MODEL, seed="s", now=NOW)
        of_kind = {item.kind: read(item) for item in reversed(written)}
        said[left_out] = conclusions(of_kind["sr"]), of_kind["sc"].Rows
    sentence = (
        "Images of the series: 6 of 12 analysed, as one volume; the others, such as another phase "
        "or stack, were left out."
    )
    assert said[6][0] == [*said[0][0], sentence]
    assert said[6][1] > said[0][1], "the montage says it below the picture"


def test_box_becomes_a_region_with_its_score_and_a_frame_on_the_picture() -> None:
    box = Box("Tumour", TUMOUR, 0.91, 0.5, 10.5, 20.0, 40.0, 60.0)
    written = encode(boxed_result(source(), box))
    report, capture = map(read, written)
    (group,) = groups(report)
    (region,) = (item for item in group.ContentSequence if item.ValueType == "SCOORD")
    assert region.GraphicData == [10.5, 20, 40, 20, 40, 60, 10.5, 60, 10.5, 20]
    assert values(group)["Probability"] == (91.0, "%")
    assert conclusions(report) == [
        "Neoplasm: marked by a box of 30 x 40 pixels, probability 91.0 % (threshold 50.0 %)."
    ]
    picture = capture.pixel_array
    assert tuple(picture[20, 25]) == colour_of(0)
    assert tuple(picture[40, 25]) == (77, 77, 77)  # inside nothing is covered


def test_finding_with_boxes_is_told_by_its_boxes() -> None:
    result = image_result(source())
    (finding,) = result.prediction.findings
    box = Box(finding.label, finding.concept, 0.9, 0.5, 1, 1, 9, 9)
    prediction = replace(result.prediction, boxes=(box, replace(box, x_max=20)), heatmap=None)
    report = read(encode(replace(result, prediction=prediction))[0])
    assert len(groups(report)) == 2
    uids = {item.UID for group in groups(report) for item in group.ContentSequence if "UID" in item}
    assert len(uids) == 2


@pytest.mark.parametrize(
    ("spacing", "sizes"),
    [
        (None, {"Area": (1264.0, "{pixels}")}),
        ([0.5, 2.0], {"Area": (1264.0, "mm2"), "Long axis": (80.077, "mm")}),
    ],
)
def test_outlined_region_has_an_area_in_the_units_that_are_known(
    spacing: list[float] | None, sizes: dict[str, tuple[float, str]]
) -> None:
    ds = source()
    if spacing:
        ds.PixelSpacing = spacing
    mask = disc(ds.Rows, ds.Columns)
    assert mask.sum() == 1264
    written = encode(outlined_result(ds, mask))
    report, capture = map(read, written)
    (group,) = groups(report)
    assert values(group) == sizes
    (region,) = (item for item in group.ContentSequence if item.ValueType == "SCOORD")
    points = np.array(region.GraphicData).reshape(-1, 2)
    distance = np.hypot(points[:, 0] - ds.Columns / 2, points[:, 1] - ds.Rows / 2)
    assert distance == pytest.approx(20, abs=1)
    assert len(np.unique(capture.pixel_array[:96, :80].reshape(-1, 3), axis=0)) == 3


def test_region_that_is_not_there_is_said_to_be_absent() -> None:
    ds = source()
    report = read(encode(outlined_result(ds, np.zeros((ds.Rows, ds.Columns), bool)))[0])
    assert conclusions(report) == ["Blood vessel: not found."]
    (group,) = groups(report)
    assert values(group)["Area"] == (0.0, "{pixels}")


def test_series_gets_a_segmentation_on_its_own_grid() -> None:
    slices = ct_series(3, slices=6)
    mask = ball(6, slices[0].Rows, slices[0].Columns)
    result = volume_result(mask)
    written = encode_volume(result, model=MODEL, seed="s", now=NOW)
    assert [item.kind for item in written] == ["sr", "seg", "sc", "sc", "sc", "sc"]
    report, segmentation, picture, *_ = map(read, written)
    assert segmentation.NumberOfFrames == 3  # empty frames are left out
    again = highdicom.seg.Segmentation.from_dataset(segmentation)
    uids = [str(ds.SOPInstanceUID) for ds in result.sources]
    pixels = again.get_pixels_by_source_instance(uids)
    np.testing.assert_array_equal(pixels[..., 0].astype(bool), mask)
    assert segmentation.FrameOfReferenceUID == result.sources[0].FrameOfReferenceUID
    (group,) = groups(report)
    tracked = [item.UID for item in group.ContentSequence if item.ValueType == "UIDREF"]
    assert segmentation.SegmentSequence[0].TrackingUID in tracked
    measured = values(group)
    assert measured["Volume"] == (round(float(mask.sum()) / 1000, 3), "ml")
    across = 40 * float(result.sources[0].PixelSpacing[1])  # the disc is 40 pixels wide
    assert measured["Long axis"] == (pytest.approx(across, rel=0.03), "mm")
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert str(segmentation.SOPInstanceUID) in listed
    assert picture.Columns >= 480


def test_segments_that_are_not_found_are_only_reported() -> None:
    empty = np.zeros((6, *ct_series(3, slices=6)[0].pixel_array.shape), bool)
    written = encode_volume(volume_result(empty), model=MODEL, seed="s", now=NOW)
    assert [item.kind for item in written] == ["sr", "sc"]
    assert conclusions(read(written[0])) == ["Left atrium: not found."]


def test_second_of_two_segments_keeps_its_number_and_colour() -> None:
    shape = (6, *ct_series(3, slices=6)[0].pixel_array.shape)
    first, second = np.zeros(shape, bool), ball(*shape)
    first[2, :5, :5] = True
    written = encode_volume(volume_result(first, second), model=MODEL, seed="s", now=NOW)
    segments = read(written[1]).SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == ["Left atrium", "Left ventricle"]
    assert len({tuple(segment.RecommendedDisplayCIELabValue) for segment in segments}) == 2


def test_masks_on_another_grid_are_refused() -> None:
    ds = source()
    with pytest.raises(ResultInputError, match="grid"):
        encode(outlined_result(ds, np.ones((5, 5), bool)))
    with pytest.raises(ResultInputError, match="grid"):
        encode_volume(volume_result(np.ones((6, 5, 5), bool)), model=MODEL, seed="s", now=NOW)
    shape = (6, *ct_series(3, slices=6)[0].pixel_array.shape)
    other = replace(volume_result(ball(*shape)), sources=tuple(ct_series(4, slices=6)))
    with pytest.raises(ResultInputError, match="other slices"):
        encode_volume(other, model=MODEL, seed="s", now=NOW)


def every_kind() -> dict[str, list[ResultObject]]:
    ds = source()
    shape = (6, *ct_series(3, slices=6)[0].pixel_array.shape)
    nothing = np.zeros(shape, bool)
    box = Box("Tumour", TUMOUR, 0.91, 0.5, 10.5, 20.0, 40.0, 60.0)
    volumes = {"found": (ball(*shape),), "two": (ball(*shape), nothing), "none": (nothing,)}
    return {
        "box": encode(boxed_result(ds, box)),
        "outline": encode(outlined_result(ds, disc(ds.Rows, ds.Columns))),
        **{
            name: encode_volume(volume_result(*masks), model=MODEL, seed=name, now=NOW)
            for name, masks in volumes.items()
        },
    }


@pytest.mark.peer
def test_validators_find_no_error(tmp_path: Path) -> None:
    dciodvfy, dsrdump = program("dciodvfy"), program("dsrdump")
    for name, written in every_kind().items():
        for item in written:
            path = tmp_path / f"{name}-{item.kind}.dcm"
            path.write_bytes(item.data)
            commands = [[dciodvfy, "-new", path]]
            commands += [[dsrdump, "+Pl", path]] if item.kind == "sr" else []
            for command in commands:
                done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
                said = (done.stdout + done.stderr).decode(errors="replace")
                problems = [line for line in said.splitlines() if re.match(r"Error|E: ", line)]
                assert not problems, f"{path.name}: {problems}"
