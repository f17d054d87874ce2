"""Which of the forms that we can give a client takes (PS3.18 section 8.7)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from fastapi import Request

from viewer_api.errors import NotAcceptableError

DICOM = "application/dicom"
JSON = "application/dicom+json"
XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
PDF = "application/pdf"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
ANY = "*"
AS_STORED = "*"
MAX_ACCEPT = 4096
"""Characters of an Accept header that are looked at."""
FRAME_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media type of a compressed frame by transfer syntax (PS3.18 section 8.7.3)."""

_ITEM = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_PART = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*")+')


@dataclass(frozen=True, slots=True)
class Range:
    """One of the things that a client accepts."""

    media_type: str
    """of a multipart what its parts are; ``*/*`` and ``image/*`` too"""
    is_multipart: bool
    transfer_syntax: str
    """UID, ``*``, or empty if nothing is said"""
    quality: float

    def takes(self, media_type: str) -> bool:
        """Tell whether a media type is meant."""
        kind, _, rest = self.media_type.partition("/")
        if rest == ANY:
            return kind in (ANY, media_type.partition("/")[0])
        return self.media_type == media_type


def accepted(request: Request) -> list[Range]:
    """Return what a client accepts, the best liked first; the query says it before the header."""
    text = request.query_params.get("accept") or request.headers.get("accept") or "*/*"
    ranges = [_range(item) for item in _ITEM.findall(text[:MAX_ACCEPT])]
    return sorted((one for one in ranges if one.quality > 0), key=lambda one: -one.quality)


def _range(text: str) -> Range:
    media_type, *parameters = (one.strip() for one in _PART.findall(text) or [""])
    values = dict(_parameter(one) for one in parameters)
    try:
        quality = float(values.get("q", 1.0))
    except ValueError:
        quality = 0.0
    media_type = media_type.lower()
    is_multipart = media_type == "multipart/related"
    if is_multipart:
        media_type = values.get("type", "*/*").lower()
    return Range(media_type, is_multipart, values.get("transfer-syntax", ""), quality)


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip().strip('"')


class Wrapping(StrEnum):
    """Whether an answer is a multipart."""

    NEVER = "never"
    ALWAYS = "always"
    EITHER = "either"
    """there is one part: wrapped, unless the client names its type alone"""


def choose(ranges: Iterable[Range], offers: Collection[str], wrapping: Wrapping) -> Range:
    """Return the best liked range, with the media type of ours that it takes.

    Parameters
    ----------
    offers
        Media types; the first is what a client gets who takes anything.

    Raises
    ------
    NotAcceptableError
        There is none.
    """
    for one in ranges:
        is_any = one.media_type == "*/*" and not one.is_multipart
        is_multipart = one.is_multipart or (is_any and wrapping is not Wrapping.NEVER)
        if wrapping is not Wrapping.EITHER and is_multipart != (wrapping is Wrapping.ALWAYS):
            continue
        for offer in offers:
            if one.takes(offer):
                return Range(offer, is_multipart, one.transfer_syntax, one.quality)
    raise NotAcceptableError(f"Only {', '.join(offers)} can be given here; accept one of them.")


def syntaxes_of(ranges: Iterable[Range], media_type: str) -> frozenset[str]:
    """Return the transfer syntaxes in which a client takes a media type; ``*``: as stored.

    Who says nothing gets Explicit VR Little Endian (PS3.18 section 8.7.3).
    """
    return frozenset(
        one.transfer_syntax or EXPLICIT_LITTLE_ENDIAN for one in ranges if one.takes(media_type)
    )


def pick_syntax(stored: str, wanted: Collection[str], *, can_decode: bool) -> str | None:
    """Return the transfer syntax to send an object in, or None."""
    if stored in wanted or AS_STORED in wanted:
        return stored
    if EXPLICIT_LITTLE_ENDIAN in wanted and can_decode:
        return EXPLICIT_LITTLE_ENDIAN
    return None


def wants_xml(request: Request, wrapping: Wrapping = Wrapping.ALWAYS) -> bool:
    """Tell whether a client likes XML better than JSON (PS3.18 section 8.7.3.2).

    Parameters
    ----------
    wrapping
        Of XML: data sets are parts, what is said about a request comes alone.

    Raises
    ------
    NotAcceptableError
        It takes neither.
    """
    for one in accepted(request):
        for offers, form in (((JSON, "application/json"), Wrapping.NEVER), ((XML,), wrapping)):
            with suppress(NotAcceptableError):
                return choose([one], offers, form).media_type == XML
    raise NotAcceptableError(
        f'Only {JSON} and multipart/related; type="{XML}" can be given here; accept one of them.'
    )
