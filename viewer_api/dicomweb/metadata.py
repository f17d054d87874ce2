"""Headers in the DICOM JSON Model (PS3.18 annex F); what is long is a link."""

from __future__ import annotations

import base64
import json
import math
import threading
import warnings
from collections import OrderedDict
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.tag import BaseTag

from ledger.broken import BROKEN_DATA
from viewer_api.context import WebContext
from viewer_api.dicomweb.attributes import Attributes, instance_url
from viewer_api.dicomweb.held import Held
from viewer_api.dicomweb.opened import OpenedInstance, opened

INLINE_BYTES = 1024
"""Longer binary values are bulk data."""
CACHED_BYTES = 1 << 26
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_CHARACTER_SET = 0x00080005


class MetadataCache:
    """Headers as JSON: the last used, up to a number of bytes. Safe for threads."""

    def __init__(self, max_bytes: int = CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, context: WebContext, held: Held, base: str) -> bytes:
        """Return an instance's metadata as a JSON object; an instance never changes.

        Raises
        ------
        UnreadableError, ReceiveError, StoreError
            As :func:`viewer_api.dicomweb.opened.opened`.
        """
        key = (held.place, held.offset, base)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with opened(context, held) as instance:
            data = json.dumps(metadata(instance, base), allow_nan=False).encode()
        with self._lock:
            self._bytes += len(data) - len(self._kept.get(key, b""))
            self._kept[key] = data
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data


def metadata(instance: OpenedInstance, base: str) -> Attributes:
    """Return all attributes of an instance; those that can't be read are left out."""
    bulk = f"{instance_url(instance.facts, base)}/bulkdata"
    with warnings.catch_warnings(action="ignore"):
        found = _data_set(instance.header, bulk)
    if instance.pixels is not None:
        tag = f"{instance.pixels.tag:08X}"
        vr = {"7FE00008": "OF", "7FE00009": "OD"}.get(tag, "OW")
        found[tag] = {"vr": vr, "BulkDataURI": f"{bulk}/{tag}"}
    return found


def _data_set(dataset: Dataset, address: str) -> Attributes:
    found: Attributes = {}
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or tag.group <= 2:  # group lengths, file meta information
            continue
        try:
            found[f"{tag:08X}"] = _element(dataset[tag], f"{address}/{tag:08X}")
        except BROKEN_DATA:
            continue
    if f"{_CHARACTER_SET:08X}" in found:
        found[f"{_CHARACTER_SET:08X}"]["Value"] = ["ISO_IR 192"]  # JSON is Unicode
    return found


def _element(element: DataElement, address: str) -> dict[str, Any]:
    vr = str(element.VR)
    if vr == "SQ":
        items = [_data_set(item, f"{address}/{n}") for n, item in enumerate(element.value)]
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if vr in BINARY:
        data = element.value or b""
        if len(data) > INLINE_BYTES:
            return {"vr": vr, "BulkDataURI": address}
        return {"vr": vr, "InlineBinary": base64.b64encode(data).decode()} if data else {"vr": vr}
    found: dict[str, Any] = element.to_json_dict(None, 1 << 62)
    if "Value" in found:
        found["Value"] = [None if _is_endless(one) else one for one in found["Value"]]
    return found


def _is_endless(value: object) -> bool:
    """Tell what JSON has no number for."""
    return isinstance(value, float) and not math.isfinite(value)


def find_bulk(dataset: Dataset, path: str) -> DataElement | None:
    """Return the element that a link leads to: tags, with numbers of items between them."""
    *way, last = path.upper().split("/")
    try:
        for tag, item in zip(way[::2], way[1::2], strict=True):
            dataset = dataset[BaseTag(int(tag, 16))].value[int(item)]
        element = dataset[BaseTag(int(last, 16))]
    except BROKEN_DATA:
        return None
    return element if str(element.VR) in BINARY else None
