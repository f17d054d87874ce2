from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

import inference.reading
from inference.reading import read_image
from inference.transfer_syntaxes import DECODABLE
from ledger.errors import PacsightError
from tests.inference.factories import dicom, stream

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def voi_lut(values: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, bits])
    item.add_new("LUTData", "US", values)
    return item


def code_of(source: Path | io.BytesIO) -> str:
    with pytest.raises(PacsightError) as caught:
        read_image(source)
    assert str(caught.value).endswith(".")
    return caught.value.code


def test_window_is_applied_as_the_standard_says() -> None:
    # PS3.3 C.11.2.1.2.1: y = (x - (c - 0.5)) / (w - 1) + 0.5
    image = read_image(stream(dicom(RAMP, BitsStored=12, WindowCenter=2048, WindowWidth=1001)))
    expected = np.clip((RAMP - 2047.5) / 1000 + 0.5, 0, 1)
    np.testing.assert_allclose(image.array, expected, atol=1e-6)
    assert image.array.dtype == np.float32
    assert image.display.dtype == np.uint8
    np.testing.assert_array_equal(image.display, np.floor(image.array * 255 + 0.5))


def test_first_of_several_windows_counts() -> None:
    ds = dicom(RAMP, WindowCenter=[2048, 40], WindowWidth=[1001, 400])
    one = dicom(RAMP, WindowCenter=2048, WindowWidth=1001)
    np.testing.assert_array_equal(read_image(stream(ds)).array, read_image(stream(one)).array)


def test_sigmoid_window() -> None:
    ds = dicom(RAMP, WindowCenter=2000, WindowWidth=800, VOILUTFunction="SIGMOID")
    expected = 1 / (1 + np.exp(-4 * (RAMP - 2000.0) / 800))
    np.testing.assert_allclose(read_image(stream(ds)).array, expected, atol=1e-6)


def test_unknown_voi_function_is_read_as_linear() -> None:
    odd = dicom(RAMP, WindowCenter=2048, WindowWidth=1001, VOILUTFunction="LOG")
    plain = dicom(RAMP, WindowCenter=2048, WindowWidth=1001)
    np.testing.assert_array_equal(read_image(stream(odd)).array, read_image(stream(plain)).array)


def test_constant_image_is_shown_through_its_window() -> None:
    flat = np.full((8, 8), 1000, np.uint16)
    array = read_image(stream(dicom(flat, WindowCenter=1000.5, WindowWidth=101))).array
    np.testing.assert_allclose(array, 0.5, atol=1e-6)


def test_image_of_nothing_but_padding_is_black() -> None:
    flat = np.full((8, 8), 1000, np.uint16)
    assert not read_image(stream(dicom(flat, PixelPaddingValue=1000))).array.any()


def test_rescale_comes_before_the_window() -> None:
    signed = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    ds = dicom(signed, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=40.5, WindowWidth=401)
    expected = np.clip((signed * 2.0 - 100 - 40) / 400 + 0.5, 0, 1)
    np.testing.assert_allclose(read_image(stream(ds)).array, expected, atol=1e-6)


def test_monochrome1_is_turned_so_that_dense_is_bright() -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4097}
    plain = read_image(stream(dicom(RAMP, **window)))
    inverse = read_image(stream(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **window)))
    np.testing.assert_allclose(inverse.array, 1 - plain.array, atol=1e-6)
    assert inverse.array[0, 0] > 0.99
    assert inverse.facts.photometric_interpretation == "MONOCHROME1"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_inverse_presentation_lut_turns_the_image_once(photometric: str) -> None:
    ds = dicom(RAMP, PhotometricInterpretation=photometric, PresentationLUTShape="INVERSE")
    array = read_image(stream(ds)).array
    assert array[0, 0] == 1
    assert array[-1, -1] == 0


def test_voi_lut_sequence_wins_over_the_window() -> None:
    ds = dicom(
        np.array([[10, 11, 12, 13], [0, 99, 12, 11]], np.uint16),
        VOILUTSequence=[voi_lut([0, 100, 900, 1000], 10, 10)],
        WindowCenter=5,
        WindowWidth=2,
    )
    np.testing.assert_allclose(
        read_image(stream(ds)).array, [[0, 0.1, 0.9, 1], [0, 1, 0.9, 0.1]], atol=1e-6
    )


def test_voi_lut_after_a_fractional_rescale() -> None:
    ds = dicom(
        np.array([[20, 22, 24, 26]], np.uint16),
        RescaleSlope="0.5",
        RescaleIntercept="0",
        VOILUTSequence=[voi_lut([0, 100, 900, 1000], 10, 10)],
    )
    np.testing.assert_allclose(read_image(stream(ds)).array, [[0, 0.1, 0.9, 1]], atol=1e-6)


def test_modality_lut_sequence() -> None:
    item = voi_lut([0, 40, 80, 200], 0, 16)
    ds = dicom(
        np.array([[0, 1, 2, 3]], np.uint16),
        ModalityLUTSequence=[item],
        WindowCenter=100.5,
        WindowWidth=201,
    )
    np.testing.assert_allclose(read_image(stream(ds)).array, [[0, 0.2, 0.4, 1]], atol=1e-6)


@pytest.mark.parametrize(
    "junk",
    [
        {},
        {"WindowCenter": 2048, "WindowWidth": 0},
        {"WindowCenter": 2048, "WindowWidth": 1},
        {"WindowCenter": 90000, "WindowWidth": 10},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": 2048},
        {"RescaleSlope": 0, "RescaleIntercept": 5},
    ],
    ids=["none", "width 0", "width 1", "outside", "empty", "half", "slope 0"],
)
def test_image_without_a_usable_window_is_shown_by_percentiles(junk: dict[str, Any]) -> None:
    pixels = RAMP + np.uint16(1000)
    pixels[0, 0] = 65535  # one hot pixel doesn't set the scale
    array = read_image(stream(dicom(pixels, **junk))).array
    assert array.min() == 0
    assert array.max() == 1
    assert array[32, 0] == pytest.approx(0.5, abs=0.02)


def test_eight_bits_without_a_window_are_shown_as_they_are() -> None:
    pixels = np.array([[50, 100], [150, 200]], np.uint8)
    image = read_image(stream(dicom(pixels)))
    np.testing.assert_array_equal(image.display, pixels)


def test_constant_image_is_black_and_no_error() -> None:
    assert not read_image(stream(dicom(np.full((8, 8), 700, np.uint16)))).array.any()


def test_nearly_empty_image_keeps_what_is_in_it() -> None:
    pixels = np.zeros((100, 100), np.uint16)
    pixels[50, 50] = 900
    assert read_image(stream(dicom(pixels))).array[50, 50] == 1


def test_padding_is_background_even_in_monochrome1() -> None:
    pixels = (RAMP.astype(np.int32) - 2000).astype(np.int16)
    pixels[:8] = -2000
    ds = dicom(pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=-2000)
    array = read_image(stream(ds)).array
    assert not array[:8].any()
    assert array[8, 0] > 0.95


def test_padding_range() -> None:
    ds = dicom(
        RAMP, PixelPaddingValue=10, PixelPaddingRangeLimit=20, PresentationLUTShape="INVERSE"
    )
    array = read_image(stream(ds)).array.ravel()
    assert not array[10:21].any()
    assert array[9] == array[21] == 1


def test_float_pixel_data() -> None:
    ds = dicom(RAMP)
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated = 32
    ds.FloatPixelData = np.linspace(-5, 5, 4096, dtype=np.float32).tobytes()
    array = read_image(stream(ds)).array
    assert array[0, 0] == 0
    assert array[-1, -1] == 1


def test_rgb_and_ybr() -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[..., 0], rgb[8:, :, 1] = 200, 100
    np.testing.assert_array_equal(read_image(stream(dicom(rgb))).display, rgb)
    ybr = np.zeros((16, 16, 3), np.uint8)
    ybr[...] = (76, 85, 255)  # pure red in YBR_FULL, PS3.3 C.7.6.3.1.2
    image = read_image(stream(dicom(ybr, PhotometricInterpretation="YBR_FULL")))
    np.testing.assert_allclose(image.array[0, 0], [1, 0, 0], atol=0.01)


def test_palette_color() -> None:
    ds = dicom(np.array([[0, 1], [2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for color, values in {
        "Red": [0, 255, 0, 128],
        "Green": [0, 0, 255, 128],
        "Blue": [0, 0, 0, 128],
    }.items():
        ds.add_new(f"{color}PaletteColorLookupTableDescriptor", "US", [4, 0, 16])
        data = np.array([value * 257 for value in values], "<u2").tobytes()
        ds.add_new(f"{color}PaletteColorLookupTableData", "OW", data)
    np.testing.assert_array_equal(
        read_image(stream(ds)).display, [[[0] * 3, [255, 0, 0]], [[0, 255, 0], [128] * 3]]
    )


def test_enhanced_multiframe_uses_its_functional_groups() -> None:
    window, transformation, group = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 0.5, 1001
    transformation.RescaleSlope, transformation.RescaleIntercept = 1, -2000
    group.FrameVOILUTSequence = [window]
    group.PixelValueTransformationSequence = [transformation]
    frames = np.stack([RAMP, RAMP[::-1]])
    ds = dicom(frames, NumberOfFrames=2, SharedFunctionalGroupsSequence=[group])
    image = read_image(stream(ds))
    np.testing.assert_allclose(image.array, np.clip((RAMP - 2000.0) / 1000 + 0.5, 0, 1), atol=1e-6)
    assert image.facts.number_of_frames == 2


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_image_reads_like_the_plain_one(syntax: str) -> None:
    plain = dicom(RAMP, WindowCenter=2048, WindowWidth=1001)
    packed = dicom(RAMP, WindowCenter=2048, WindowWidth=1001)
    packed.compress(syntax, generate_instance_uid=False)
    image = read_image(stream(packed))
    assert image.facts.transfer_syntax_uid == syntax
    np.testing.assert_array_equal(image.array, read_image(stream(plain)).array)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_plain_encoding(syntax: str) -> None:
    plain = read_image(stream(dicom(RAMP)))
    ds = dicom(RAMP)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = RAMP.astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    image = read_image(stream(ds))
    np.testing.assert_array_equal(image.array, plain.array)
    assert image.facts.has_pixel_data


@pytest.mark.parametrize("implicit", [True, False])
def test_data_set_without_preamble_and_meta(implicit: bool) -> None:
    ds = dicom(RAMP, WindowCenter=2048, WindowWidth=1001)
    plain = read_image(stream(ds))
    file = io.BytesIO()
    del ds.file_meta
    ds.save_as(file, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    file.seek(0)
    image = read_image(file)
    np.testing.assert_array_equal(image.array, plain.array)
    assert image.facts.transfer_syntax_uid == ""


def test_header_comes_without_pixels_and_path_like_stream(tmp_path: Path) -> None:
    ds = dicom(RAMP)
    ds.save_as(tmp_path / "image", enforce_file_format=True)
    image = read_image(tmp_path / "image")
    assert image.dataset is not None
    assert "PixelData" not in image.dataset
    assert image.dataset.PatientID == "42"
    assert image.facts.sop_instance_uid == ds.SOPInstanceUID
    assert (image.rows, image.columns) == (64, 64)
    np.testing.assert_array_equal(image.array, read_image(stream(ds)).array)


def test_only_one_frame_of_many_is_held(tmp_path: Path) -> None:
    import tracemalloc

    ds = dicom(np.zeros((1, 512, 512), np.uint16), NumberOfFrames=400)
    frame = ds.PixelData
    ds.PixelData = frame * 400  # 200 MiB
    ds.save_as(tmp_path / "cine", enforce_file_format=True)
    del ds
    tracemalloc.start()
    image = read_image(tmp_path / "cine")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.array.shape == (512, 512)
    assert peak < 40 << 20


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"A text file, nothing else.\n" * 20,
        b"\x00" * 4096,
        b"GIF89a" + b"\x00" * 200,
        b"\x08\x00",
    ],
    ids=["empty", "text", "zeros", "gif", "2 bytes"],
)
def test_what_is_no_image_is_said_so(content: bytes) -> None:
    assert code_of(io.BytesIO(content)) == "NOT_AN_IMAGE"


def test_missing_file(tmp_path: Path) -> None:
    assert code_of(tmp_path / "absent.dcm") == "NOT_AN_IMAGE"
    assert code_of(tmp_path) == "NOT_AN_IMAGE"


def test_no_pixel_data() -> None:
    assert code_of(stream(dicom(None))) == "NO_PIXEL_DATA"


def test_missing_uid() -> None:
    ds = dicom(RAMP)
    del ds.StudyInstanceUID
    assert code_of(stream(ds)) == "UID_MISSING"


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncated_file_is_recognised(compressed: bool) -> None:
    ds = dicom(RAMP)
    if compressed:
        ds.compress(RLELossless, generate_instance_uid=False)
    content = stream(ds).getvalue()
    codes = {
        code_of(io.BytesIO(content[:length]))
        for length in (*range(700, len(content) - 8, 97), len(content) - 8)
    }  # the last one lacks nothing but the sequence delimiter
    assert codes <= {"DICOM_TRUNCATED", "NO_PIXEL_DATA"}
    assert "DICOM_TRUNCATED" in codes


def test_any_cut_gives_an_image_or_a_coded_error() -> None:
    content = stream(dicom(np.zeros((4, 4), np.uint8))).getvalue()
    for length in range(len(content) - 1):
        code_of(io.BytesIO(content[:length]))


def test_truncated_deflated_file() -> None:
    ds = dicom(RAMP)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = stream(ds).getvalue()
    assert code_of(io.BytesIO(content[: len(content) // 2])) == "DICOM_TRUNCATED"


def test_deflate_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.reading, "MAX_INFLATED_BYTES", 5 << 20)
    ds = dicom(RAMP)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = stream(ds).getvalue()
    start = content.index(b"1.2.840.10008.1.2.1.99") - 8
    length = int.from_bytes(content[140:144], "little")
    assert start < 144 + length
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(b"\x00" * (50 << 20)) + packer.flush()
    assert code_of(io.BytesIO(content[: 144 + length] + bomb)) == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.9", "1.2.3.4.5"])
def test_unsupported_transfer_syntax(syntax: str) -> None:
    ds = dicom(RAMP)
    ds.compress(RLELossless, generate_instance_uid=False)
    content = stream(ds).getvalue()
    old = f"{RLELossless}\0".encode()
    assert content.count(old) == 1
    content = content.replace(old, syntax.ljust(len(old), "\0").encode())
    assert code_of(io.BytesIO(content)) == "TRANSFER_SYNTAX_UNSUPPORTED"


def test_huge_frame_is_refused_before_it_is_decoded() -> None:
    assert code_of(stream(dicom(RAMP, Rows=65535, Columns=65535))) == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize(
    "changes",
    [
        {"Rows": 65},
        {"BitsAllocated": 13},
        {"PhotometricInterpretation": "HSV"},
        {"SamplesPerPixel": 7},
        {"VOILUTSequence": [voi_lut([1, 2], 0, 3)]},
    ],
    ids=["too few bytes", "bits", "photometric", "samples", "LUT"],
)
def test_contradicting_header(changes: dict[str, Any]) -> None:
    assert code_of(stream(dicom(RAMP, **changes))) == "PIXELS_UNREADABLE"


@pytest.mark.parametrize("value", [b"nan ", b"inf "])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_rescale_that_is_no_number_makes_no_blank_image(keyword: str, value: bytes) -> None:
    rescale = {"RescaleSlope": "1", "RescaleIntercept": "0", keyword: "777"}
    content = stream(dicom(RAMP, **rescale)).getvalue()
    assert content.count(b"777 ") == 1
    assert code_of(io.BytesIO(content.replace(b"777 ", value))) == "PIXELS_UNREADABLE"


def test_garbage_in_compressed_pixels() -> None:
    ds = dicom(RAMP)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    content = bytearray(stream(ds).getvalue())
    start = content.index(b"\xe0\x7f\x10\x00") + 40
    content[start:-60] = b"\x55" * (len(content) - 60 - start)
    assert code_of(io.BytesIO(bytes(content))) == "PIXELS_UNREADABLE"


def test_messages_hold_nothing_of_the_patient() -> None:
    with pytest.raises(PacsightError) as caught:
        read_image(stream(dicom(RAMP, Rows=65)))
    assert "Anna" not in str(caught.value)


def test_list_of_decodable_syntaxes_is_what_is_installed() -> None:
    available = set()
    for syntax in AllTransferSyntaxes:
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue
        if decoder.is_available:
            available.add(str(syntax))
    assert available == DECODABLE
