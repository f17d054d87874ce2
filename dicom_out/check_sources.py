"""What results may be about and refer to, looked up once for all objects of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_out.model_result import ResultObject
from dicom_out.patient import read_text

_IDENTIFYING = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True, slots=True)
class Sources:
    """The analysed images, and the objects that are sent together.

    Attributes
    ----------
    images
        Header of each image by its SOP Instance UID.
    frames
        How many frames each image has.
    studies, series
        UIDs of the studies and series that they are in.
    references
        SOP Class and Instance UID of everything that may be referred to.
    uids
        Every UID that came with the images, in form or not.
    """

    images: dict[str, Dataset]
    frames: dict[str, int]
    studies: frozenset[str]
    series: frozenset[str]
    references: frozenset[tuple[str, str]]
    uids: frozenset[str]

    @classmethod
    def of(
        cls, headers: Sequence[Dataset], identity: Dataset, siblings: Sequence[ResultObject]
    ) -> Sources:
        """Look up headers of images, Patient and Study attributes, and the other objects."""
        rows = [[str(header[keyword].value) for keyword in _IDENTIFYING] for header in headers]
        together = ((item.sop_class_uid, item.sop_instance_uid) for item in siblings)
        return cls(
            images={row[1]: header for row, header in zip(rows, headers, strict=True)},
            frames={
                row[1]: int(read_text(header, "NumberOfFrames") or 1)
                for row, header in zip(rows, headers, strict=True)
            },
            studies=frozenset(row[3] for row in rows),
            series=frozenset(row[2] for row in rows),
            references=frozenset([*((row[0], row[1]) for row in rows), *together]),
            uids=frozenset([*(uid for row in rows for uid in row), *_uids(identity)]),
        )


def _uids(ds: Dataset) -> Iterator[str]:
    for element in ds.iterall():
        if element.VR == "UI":
            yield from map(str, [element.value] if element.VM <= 1 else element.value)
