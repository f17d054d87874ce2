"""A second decoder for JPEG Extended (12 bit): libjpeg-turbo, for streams that libjpeg refuses.

Many old files of process 4 have scan headers that are not as the standard has them. pydicom asks
its own decoders first; importing this module registers the second one.
"""

from __future__ import annotations

from pydicom.pixels.decoders import JPEGExtended12BitDecoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import UID, JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("imagecodecs",)}
"""What pydicom names when the decoder is missing."""


def is_available(uid: UID) -> bool:
    """Return whether pixels of a transfer syntax can be decoded; pydicom asks."""
    return uid == JPEGExtended12Bit


def decode(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one grey frame for pydicom.

    Raises
    ------
    ValueError
        The frame is in colour.
    """
    from imagecodecs import jpeg8_decode

    pixels = jpeg8_decode(src)
    if pixels.ndim != 2:
        raise ValueError("a frame in colour")
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    return bytes(pixels.tobytes())


JPEGExtended12BitDecoder.add_plugin("imagecodecs", ("inference.jpeg12", "decode"))
