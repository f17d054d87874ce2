from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import inference.pictures
from inference.reading import read_image
from ledger.errors import PacsightError

GRAY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def code_of(content: bytes) -> str:
    with pytest.raises(PacsightError) as caught:
        read_image(io.BytesIO(content))
    return caught.value.code


def test_gray_png() -> None:
    image = read_image(encoded(Image.fromarray(GRAY)))
    np.testing.assert_array_equal(image.display, GRAY)
    assert image.dataset is None
    assert image.facts.has_pixel_data
    assert image.facts.modality == ""
    assert image.facts.sop_instance_uid == ""
    assert (image.facts.rows, image.facts.columns) == (16, 16)


def test_rgb_png_keeps_its_colours() -> None:
    rgb = np.dstack([GRAY, GRAY.T, 255 - GRAY])
    image = read_image(encoded(Image.fromarray(rgb)))
    np.testing.assert_array_equal(image.display, rgb)
    assert image.facts.photometric_interpretation == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_picture_that_was_saved_in_colour_is_grey(kind: str) -> None:
    picture = Image.fromarray(np.stack([GRAY] * 3, axis=2))
    image = read_image(encoded(picture, kind))
    assert image.facts.photometric_interpretation == "MONOCHROME2"
    assert image.array.shape == (16, 16)
    assert np.abs(image.display.astype(int) - GRAY).max() < 24
    tinted = np.stack([GRAY, GRAY, np.minimum(GRAY, 240)], axis=2)
    tinted[:8, :, 0] = np.minimum(255, tinted[:8, :, 0].astype(int) + 12)
    colour = read_image(encoded(Image.fromarray(tinted)))
    assert colour.facts.photometric_interpretation == "RGB"


def test_full_scale_16_bit_png_reads_like_the_8_bit_one() -> None:
    deep = GRAY.astype(np.uint16) * 257
    image = read_image(encoded(Image.fromarray(deep)))
    np.testing.assert_allclose(image.array, GRAY / 255, atol=1e-6)


def test_12_bits_in_a_16_bit_png_are_not_black() -> None:
    raw = np.linspace(100, 4000, 10_000).astype(np.uint16).reshape(100, 100)
    array = read_image(encoded(Image.fromarray(raw))).array
    assert array.min() == 0
    assert array.max() == 1
    assert array.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", ["zero", "constant"])
def test_constant_16_bit_png(kind: str) -> None:
    raw = np.full((8, 8), 0 if kind == "zero" else 700, np.uint16)
    assert not read_image(encoded(Image.fromarray(raw))).array.any()


def test_transparent_parts_are_black() -> None:
    rgba = np.full((4, 4, 4), 255, np.uint8)
    rgba[0, 0, 3] = 0
    display = read_image(encoded(Image.fromarray(rgba))).display
    np.testing.assert_array_equal(display[0, 0], [0, 0, 0])
    np.testing.assert_array_equal(display[1, 1], [255, 255, 255])


def test_palette_and_one_bit() -> None:
    palette = Image.fromarray(np.dstack([GRAY, GRAY, GRAY])).convert("P")
    assert read_image(encoded(palette)).display.shape == (16, 16, 3)
    bit = read_image(encoded(Image.fromarray(GRAY > 100)))
    np.testing.assert_array_equal(bit.display, (GRAY > 100) * 255)


def test_jpeg_is_turned_upright() -> None:
    pixels = np.zeros((40, 80), np.uint8)
    pixels[:, :40] = 250  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: the row 0 is at the right
    image = read_image(encoded(Image.fromarray(pixels), "JPEG", exif=exif, quality=95))
    assert image.display.shape == (80, 40)
    assert image.display[:30].mean() > 240
    assert image.display[50:].mean() < 10


def test_cmyk_jpeg() -> None:
    picture = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    np.testing.assert_allclose(read_image(encoded(picture, "JPEG")).array, 1, atol=0.02)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cut_picture(kind: str) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8))
    content = encoded(noise, kind).getvalue()
    for length in range(10, len(content) - 12, 37):
        assert code_of(content[:length]) == "PIXELS_UNREADABLE"


def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.pictures, "MAX_PIXELS", 255)
    assert code_of(encoded(Image.fromarray(GRAY)).getvalue()) == "IMAGE_TOO_LARGE"


def test_png_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = b""
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + name + data
        chunks += struct.pack(">I", zlib.crc32(name + data))
    assert code_of(b"\x89PNG\r\n\x1a\n" + chunks) == "IMAGE_TOO_LARGE"
