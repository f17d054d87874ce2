"""The heatmap picture, judged by its pixels."""

from dataclasses import replace

import numpy as np
import pytest

from dicom_out.band import MIN_WIDTH
from dicom_out.render import MAX_OPACITY, render_heatmap
from ledger.domain import Code, Finding, Heatmap
from tests.dicom_out.factories import MODEL, finding, hot_spot

GREY = 77


def rendered(rows: int, columns: int, probability: float = 0.9) -> np.ndarray:
    display = np.full((rows, columns), GREY, np.uint8)
    heatmap = Heatmap(hot_spot(rows, columns), "pneumonia", "layer")
    return render_heatmap(display, heatmap, [finding(probability)], MODEL)


def colourfulness(picture: np.ndarray) -> np.ndarray:
    return np.ptp(picture.astype(int), axis=2)


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (3, 2000), (2000, 3), (224, 224), (1024, 832)]
)
def test_the_picture_keeps_resolution_and_place_and_the_band_lies_below(
    rows: int, columns: int
) -> None:
    picture = rendered(rows, columns)
    assert picture.shape[1] == max(columns, MIN_WIDTH)
    assert picture.shape[0] > rows + 60
    assert picture.dtype == np.uint8


def test_cold_places_keep_their_grey_values_exactly() -> None:
    picture = rendered(300, 500)[:300]
    cold = hot_spot(300, 500) < 0.14
    assert cold.sum() > 1000
    assert (picture[cold] == GREY).all()


def test_hot_places_are_coloured_but_the_image_shows_through() -> None:
    rows, columns = 300, 500
    heat = Heatmap(np.ones((rows, columns), np.float32), "other", "layer")
    dark = render_heatmap(np.zeros((rows, columns), np.uint8), heat, [], MODEL)[:rows]
    light = render_heatmap(np.full((rows, columns), 255, np.uint8), heat, [], MODEL)[:rows]
    contrast = light.astype(int) - dark
    assert colourfulness(dark).min() > 40
    assert contrast.min() >= 255 * (1 - MAX_OPACITY) - 2


def test_the_hot_region_is_outlined_when_the_finding_is_positive_only() -> None:
    positive, negative = rendered(300, 500)[:300], rendered(300, 500, probability=0.1)[:300]
    assert (positive == 255).all(axis=2).sum() > 100
    assert not (negative == 255).all(axis=2).any()


def test_a_negative_result_is_coloured_more_faintly() -> None:
    positive, negative = rendered(300, 500)[:300], rendered(300, 500, probability=0.1)[:300]
    centre = (slice(175, 185), slice(145, 155))
    assert 0 < colourfulness(negative[centre]).mean() < 0.6 * colourfulness(positive[centre]).mean()


def test_brightness_grows_with_heat_so_that_no_colour_vision_is_needed() -> None:
    heat = np.tile(np.linspace(0.3, 1, 500, dtype=np.float32), (60, 1))
    display = np.zeros((60, 500), np.uint8)
    row = render_heatmap(display, Heatmap(heat, "x", "layer"), [], MODEL)[30].astype(float)
    luminance = row @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[::25]) > 0).all()


def test_a_colour_image_keeps_its_colours_where_it_is_cold() -> None:
    display = np.zeros((50, 600, 3), np.uint8)
    display[:, :, 0] = 200
    picture = render_heatmap(display, None, [finding()], MODEL)
    assert np.array_equal(picture[:50], display)


def test_the_band_changes_with_version_verdict_and_digest() -> None:
    def band(probability: float, version: str, digest: str) -> bytes:
        identity = replace(MODEL.identity, version=version, digest=digest)
        model = replace(MODEL, identity=identity)
        picture = render_heatmap(np.zeros((9, 900), np.uint8), None, [finding(probability)], model)
        return picture[9:].tobytes()

    variants = {
        band(0.9, "1.0.0", "a" * 64),
        band(0.1, "1.0.0", "a" * 64),
        band(0.9, "1.0.1", "a" * 64),
        band(0.9, "1.0.0", "b" * 64),
    }
    assert len(variants) == 4


def test_long_texts_are_wrapped_so_that_they_fit() -> None:
    long = Finding(
        "x", Code("1", "99TEST", "Pneumonia with a very long name indeed " * 2), 0.9, 0.5
    )
    picture = render_heatmap(np.zeros((9, 480), np.uint8), None, [long], MODEL)
    band = picture[9:]
    assert (band[:, -4:] == band[0, 0]).all()  # nothing is cut off at the right border


def test_many_findings_are_cut_with_a_note_and_the_band_stays_small() -> None:
    many = [Finding(str(n), Code(str(n), "99TEST", f"F{n}"), n / 40, 0.5) for n in range(30)]
    picture = render_heatmap(np.zeros((9, 900), np.uint8), None, many, MODEL)
    assert picture.shape[0] < 500


def test_a_model_in_service_is_not_called_research() -> None:
    display = np.zeros((9, 900), np.uint8)
    service = replace(MODEL, content_qualification="PRODUCT")
    research = render_heatmap(display, None, [finding()], MODEL)
    assert render_heatmap(display, None, [finding()], service).shape[0] < research.shape[0]
