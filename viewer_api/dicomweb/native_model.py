"""The Native DICOM Model (PS3.19 annex A.1): the DICOM JSON Model's content as XML."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from pydicom.datadict import keyword_for_tag

from viewer_api.dicomweb.attributes import Attributes

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
PRIVATE_FROM = 0x1000
"""Elements of odd groups from here on belong to who has reserved their block (PS3.5 7.8.1)."""
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has not, such as the form feeds of long texts."""


def native_model(row: Attributes) -> bytes:
    """Return a data set, given in the DICOM JSON Model, as an XML document in UTF-8."""
    root = Element("NativeDicomModel", {"xmlns": NAMESPACE, "xml:space": "preserve"})
    _fill(root, row)
    # A reader of XML takes a bare CR LF for LF (XML 1.0 section 2.11).
    return tostring(root, "utf-8", xml_declaration=True).replace(b"\r", b"&#13;")


def _fill(parent: Element, row: Attributes) -> None:
    for tag, element in row.items():
        attribute = SubElement(parent, "DicomAttribute", _about(tag, element["vr"], row))
        if "BulkDataURI" in element:
            SubElement(attribute, "BulkData", uri=element["BulkDataURI"])
        elif "InlineBinary" in element:
            SubElement(attribute, "InlineBinary").text = element["InlineBinary"]
        for number, value in enumerate(element.get("Value", ()), 1):
            if value is not None:
                _add_value(attribute, element["vr"], str(number), value)


def _about(tag: str, vr: str, row: Attributes) -> dict[str, str]:
    """Return tag, VR and keyword; of a private element its creator instead of its block."""
    group, number = int(tag[:4], 16), int(tag[4:], 16)
    if group % 2 and number >= PRIVATE_FROM:
        creator = row.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value")
        if creator:
            return {"tag": f"{tag[:4]}00{tag[6:]}", "vr": vr, "privateCreator": _text(creator[0])}
    keyword = keyword_for_tag(int(tag, 16))
    return {"tag": tag, "vr": vr, **({"keyword": keyword} if keyword else {})}


def _add_value(attribute: Element, vr: str, number: str, value: Any) -> None:
    if vr == "SQ":
        _fill(SubElement(attribute, "Item", number=number), value)
    elif vr == "PN":
        name = SubElement(attribute, "PersonName", number=number)
        for group, text in value.items():
            parts = SubElement(name, group)
            for part, said in zip(_NAME_PARTS, text.split("^"), strict=False):
                if said:
                    SubElement(parts, part).text = _text(said)
    else:
        SubElement(attribute, "Value", number=number).text = _text(value)


def _text(value: object) -> str:
    return _NO_XML.sub("", str(value))
