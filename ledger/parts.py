"""How many parts a DICOM header may have: elements and items become objects, and may be millions.

An empty item takes 8 bytes in a file and 600 in memory. pydicom builds sequences whole: those of
undefined length when it reads a data set, the others when somebody looks at them. The first are
bounded by giving it a :class:`MeteredFile`, the others by a hook that this module registers.
"""

from __future__ import annotations

import io
from collections.abc import MutableSequence
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_sequence
from pydicom.hooks import hooks, raw_element_value

from ledger.errors import HeaderTooLargeError

MAX_READS = 2_500_000
"""Each item and each element takes one to three reads, and a read half a kilobyte of memory: what
is refused had taken 1.3 GB, less than a container of an intake worker or of the web app has.
10,000 frames of enhanced CT take 2,000,000."""
UNMETERED_BYTES = 1 << 16


class MeteredFile:
    """An open binary file that can be read so often and no more.

    Raises
    ------
    HeaderTooLargeError
        By :meth:`read` when it is too often. pydicom may turn it into an OSError of its own:
        :attr:`is_exhausted` tells.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MAX_READS

    @property
    def is_exhausted(self) -> bool:
        """Whether more was read than may be."""
        return self._left < 0

    def read(self, size: int = -1) -> bytes:
        """Read."""
        self._left -= 1
        if self._left < 0:
            raise HeaderTooLargeError
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def _value(
    raw: RawDataElement,
    data: dict[str, Any],
    *,
    encoding: str | MutableSequence[str] | None = None,
    ds: Dataset | None = None,
    **options: Any,
) -> None:
    """Convert a raw element as pydicom does, but a long sequence with a limit."""
    if data["VR"] != "SQ" or len(raw.value or b"") <= UNMETERED_BYTES:
        raw_element_value(raw, data, encoding=encoding, ds=ds, **options)
        return
    file: Any = MeteredFile(io.BytesIO(raw.value))
    try:
        data["value"] = read_sequence(
            file,
            raw.is_implicit_VR,
            raw.is_little_endian,
            len(raw.value),
            encoding or ["iso8859"],
            raw.value_tell,
        )
    except OSError as error:
        if file.is_exhausted:
            raise HeaderTooLargeError from error
        raise


hooks.register_callback("raw_element_value", _value)
