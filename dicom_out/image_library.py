"""The images a report is about: TID 1600 Image Library with TID 1602 descriptors.

highdicom's own library insists on attributes that real radiographs often lack, so what is absent
is left out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

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
from pydicom.valuerep import format_number_as_ds

from dicom_out import codes
from dicom_out.patient import read_element, read_text

CONTAINS = RelationshipTypeValues.CONTAINS
ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT

Fact: TypeAlias = tuple[Code, Code | str | tuple[float, Code]]
"""Concept name, and a code, a text, or a number with its unit."""


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
    """Return a group: what all its images share is said once, of the group (TID 1600, row 3)."""
    group = ContainerContentItem(name=codes.IMAGE_LIBRARY_GROUP, relationship_type=CONTAINS)
    facts = [_facts(image) for image in images]
    shared = [fact for fact in facts[0] if all(fact in others for others in facts)]
    group.ContentSequence = ContentSequence(
        [
            *map(_descriptor, shared),
            *(
                _entry(image, name, [fact for fact in own if fact not in shared])
                for image, own in zip(images, facts, strict=True)
            ),
        ]
    )
    return group


def _entry(source: Dataset, name: Code, facts: Sequence[Fact]) -> ImageContentItem:
    entry = ImageContentItem(
        name=name,
        referenced_sop_class_uid=source.SOPClassUID,
        referenced_sop_instance_uid=source.SOPInstanceUID,
        relationship_type=CONTAINS,
    )
    if facts:
        entry.ContentSequence = ContentSequence([_descriptor(fact) for fact in facts])
    return entry


def _facts(source: Dataset) -> list[Fact]:
    """Return what TID 1602 says of an image."""
    facts: list[Fact] = [(codes.MODALITY, codes.modality_code(read_text(source, "Modality")))]
    sizes = (("Rows", codes.PIXEL_DATA_ROWS), ("Columns", codes.PIXEL_DATA_COLUMNS))
    for keyword, name in sizes:
        element = read_element(source, keyword)
        if element is not None and isinstance(element.value, int):
            facts.append((name, (float(element.value), codes.PIXELS)))
    orientation = _pair(source, "PatientOrientation")
    if orientation:
        facts += zip((codes.ROW_ORIENTATION, codes.COLUMN_ORIENTATION), orientation, strict=True)
    spacing = _pair(source, "PixelSpacing") or _pair(source, "ImagerPixelSpacing")
    if spacing:
        sides = (codes.VERTICAL_SPACING, codes.HORIZONTAL_SPACING)
        values = ((float(format_number_as_ds(float(text))), codes.MILLIMETRE) for text in spacing)
        facts += zip(sides, values, strict=True)
    return facts


def _descriptor(fact: Fact) -> ContentItem:
    name, value = fact
    if isinstance(value, Code):
        return CodeContentItem(name=name, value=value, relationship_type=ACQUISITION)
    if isinstance(value, str):
        return TextContentItem(name=name, value=value, relationship_type=ACQUISITION)
    number, unit = value
    return NumContentItem(name=name, value=number, unit=unit, relationship_type=ACQUISITION)


def _pair(source: Dataset, keyword: str) -> tuple[str, str] | None:
    """Return both values of an attribute with two, if both are there."""
    element = read_element(source, keyword)
    if element is None or element.VM != 2:
        return None
    first, second = (str(value).strip() for value in element.value)
    return (first, second) if first and second else None
