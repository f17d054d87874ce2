import numpy as np

from dicom_out.region import MAX_POINTS, hot_outline, whole_image
from tests.dicom_out.factories import hot_spot


def test_the_outline_encloses_the_hot_pixels_and_no_cold_ones() -> None:
    heat = np.zeros((40, 60), np.float32)
    heat[10:20, 30:45] = 1.0
    outline = hot_outline(heat)
    assert outline is not None
    assert np.array_equal(outline[0], outline[-1])
    assert np.allclose(outline.min(0), [30, 10], atol=0.5)
    assert np.allclose(outline.max(0), [45, 20], atol=0.5)


def test_the_largest_of_several_hot_regions_counts() -> None:
    heat = np.zeros((50, 50), np.float32)
    heat[2:6, 2:6] = 1.0
    heat[20:45, 20:45] = 0.8
    outline = hot_outline(heat)
    assert outline is not None
    assert outline.min() > 15


def test_a_region_at_the_border_stays_in_the_image_and_is_closed() -> None:
    heat = np.zeros((30, 20), np.float32)
    heat[:10, :20] = 1.0
    outline = hot_outline(heat)
    assert outline is not None
    assert outline.min() >= 0
    assert outline[:, 0].max() <= 20
    assert np.array_equal(outline[0], outline[-1])


def test_nothing_hot_has_no_outline() -> None:
    assert hot_outline(np.full((9, 9), 0.4, np.float32)) is None


def test_one_hot_pixel_has_an_outline() -> None:
    outline = hot_outline(np.ones((1, 1), np.float32))
    assert outline is not None
    assert outline.min() >= 0
    assert outline.max() <= 1


def test_big_heatmaps_have_outlines_of_few_points_in_the_right_place() -> None:
    outline = hot_outline(hot_spot(3000, 2400))
    assert outline is not None
    assert len(outline) <= MAX_POINTS
    assert np.allclose(outline.mean(0), [0.3 * 2400, 0.6 * 3000], rtol=0.03)


def test_the_whole_image_is_a_closed_frame() -> None:
    frame = whole_image(rows=3, columns=5)
    assert frame.tolist() == [[0, 0], [5, 0], [5, 3], [0, 3], [0, 0]]
