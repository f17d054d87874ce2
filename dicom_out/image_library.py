"""The images a report is about: TID 1600 Image Library with TID 1602 descriptors.

highdicom's own library insists on attributes that real radiographs often lack, so what is absent
is left out here.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_out import codes
from dicom_out.patient import read_element, read_text

CONTAINS = RelationshipTypeValues.CONTAINS
ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT

DS_LENGTH = 16
"""Characters in a Decimal String, PS3.5 table 6.2-1."""


def image_library(
    sources: Sequence[Dataset], illustrations: Sequence[Dataset] = ()
) -> ContainerContentItem:
    """Return the Image Library: a group of the source images, and one of our pictures of them."""
    library = ContainerContentItem(name=codes.IMAGE_LIBRARY, relationship_type=CONTAINS)
    groups = [_group(sources, codes.SOURCE)]
    if illustrations:
        groups.append(_group(illustrations, codes.ILLUSTRATION))
    library.ContentSequence = ContentSequence(groups)
    return library


def _group(images: Sequence[Dataset], name: Code) -> ContainerContentItem:
    group = ContainerContentItem(name=codes.IMAGE_LIBRARY_GROUP, relationship_type=CONTAINS)
    group.ContentSequence = ContentSequence([_entry(image, name) for image in images])
    return group


def _entry(source: Dataset, name: Code) -> ImageContentItem:
    entry = ImageContentItem(
        name=name,
        referenced_sop_class_uid=source.SOPClassUID,
        referenced_sop_instance_uid=source.SOPInstanceUID,
        relationship_type=CONTAINS,
    )
    entry.ContentSequence = ContentSequence(_descriptors(source))
    return entry


def _descriptors(source: Dataset) -> list[ContentItem]:
    items: list[ContentItem] = [
        CodeContentItem(
            name=codes.MODALITY,
            value=codes.modality_code(read_text(source, "Modality")),
            relationship_type=ACQUISITION,
        )
    ]
    sizes = (("Rows", codes.PIXEL_DATA_ROWS), ("Columns", codes.PIXEL_DATA_COLUMNS))
    for keyword, name in sizes:
        element = read_element(source, keyword)
        if element is not None and isinstance(element.value, int):
            items.append(_number(name, element.value, codes.PIXELS))
    orientation = _pair(source, "PatientOrientation")
    if orientation:
        for name, text in zip(
            (codes.ROW_ORIENTATION, codes.COLUMN_ORIENTATION), orientation, strict=True
        ):
            items.append(TextContentItem(name=name, value=text, relationship_type=ACQUISITION))
    spacing = _pair(source, "PixelSpacing") or _pair(source, "ImagerPixelSpacing")
    if spacing:
        for name, text in zip(
            (codes.VERTICAL_SPACING, codes.HORIZONTAL_SPACING), spacing, strict=True
        ):
            items.append(_number(name, round_decimal(text), codes.MILLIMETRE))
    return items


def _number(name: Code, value: float, unit: Code) -> NumContentItem:
    return NumContentItem(name=name, value=value, unit=unit, relationship_type=ACQUISITION)


def _pair(source: Dataset, keyword: str) -> tuple[str, str] | None:
    """Return both values of an attribute with two, if both are there."""
    element = read_element(source, keyword)
    if element is None or element.VM != 2:
        return None
    first, second = (str(value).strip() for value in element.value)
    return (first, second) if first and second else None


def round_decimal(text: str) -> float:
    """Return a decimal number that fits into 16 characters."""
    value = float(text)
    for digits in range(15, 0, -1):
        rounded = float(f"{value:.{digits}g}")
        if len(str(rounded)) <= DS_LENGTH:
            return rounded
    return value
