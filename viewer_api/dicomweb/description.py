"""What OpenAPI says about DICOMweb; the parameters of a search are those that are parsed."""

from __future__ import annotations

from typing import Any

from viewer_api.api_models import Problem
from viewer_api.dicomweb.matching import (
    ATTRIBUTES,
    IN_SEQUENCE,
    MAX_OFFSET,
    MAX_ROWS,
    Kind,
    Level,
)
from viewer_api.dicomweb.media import DICOM, FRAME_TYPES, JSON, OCTETS, PDF, XML

UID = "1.2.826.0.1.3680043.8.498.1"
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A parameter or the body has no usable value"},
    401: {"model": Problem, "description": "No session, and no valid API token"},
    403: {"model": Problem, "description": "The role, or the token's scope, doesn't allow it"},
    404: {"model": Problem, "description": "There is no such study, series, instance or frame"},
    406: {"model": Problem, "description": "It can't be given in a form that is accepted"},
}
_KINDS = {
    Kind.TEXT: "`*` stands for any text, `?` for any character",
    Kind.NAME: "Without regard to case; `*` stands for any text, `?` for any character",
    Kind.RANGE: "A value, or two with a hyphen between them, one of which may be missing",
    Kind.LIST: "One or several, with commas between them",
    Kind.NUMBER: "A whole number",
}
_EXAMPLES = {
    "PatientName": "doe*",
    "PatientID": "4711",
    "StudyDate": "20260101-",
    "ModalitiesInStudy": "CT,MR",
    "StudyInstanceUID": UID,
    "Modality": "SEG",
    "InstanceNumber": "3",
}
_FOUND = {
    "00080020": {"vr": "DA", "Value": ["20260105"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
    "0020000D": {"vr": "UI", "Value": [UID]},
}
_STORED = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [f"{UID}.1"]}}]}}


def search(level: Level) -> dict[str, Any]:
    """Return what a route of QIDO-RS says of itself."""
    whole = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}
    fields = "Names of attributes, or `all`: adds nothing to what is answered anyway"
    parameters = [
        _parameter(_name(keyword), {"type": "string"}, _KINDS[kind], _EXAMPLES.get(keyword))
        for keyword, kind in ATTRIBUTES[level].items()
    ]
    parameters += [
        _parameter("limit", whole, f"At most so many answers; never more than {MAX_ROWS}", 20),
        _parameter("offset", whole, "So many answers are left out first", 0),
        _parameter("includefield", {"type": "string"}, fields, "all"),
        _parameter("fuzzymatching", {"type": "boolean"}, "Not done; a warning says so", None),
    ]
    return {
        "responses": {
            200: _models("What was found; a Warning header says what is missing"),
            204: {"description": "Nothing fits"},
        },
        "openapi_extra": {"parameters": parameters},
    }


def _name(keyword: str) -> str:
    return f"RequestAttributesSequence.{keyword}" if keyword in IN_SEQUENCE else keyword


def _parameter(name: str, schema: dict[str, Any], said: str, example: Any) -> dict[str, Any]:
    shown = {} if example is None else {"example": example}
    return {"name": name, "in": "query", "schema": schema, "description": said, **shown}


def _given(said: str, media_types: list[str], example: Any = None) -> dict[str, Any]:
    shown = {} if example is None else {"example": example}
    return {"description": said, "content": dict.fromkeys(media_types, shown)}


def _models(said: str) -> dict[str, Any]:
    """Return an answer of data sets as JSON, or as XML with each a part."""
    described = _given(said, [JSON], [_FOUND])
    described["content"][f'multipart/related; type="{XML}"'] = {}
    return described


def _either(*media_types: str) -> list[str]:
    """Return media types alone and as parts."""
    return [form for one in media_types for form in (one, f'multipart/related; type="{one}"')]


def _answers(said: str, media_types: list[str], example: Any = None) -> dict[str, Any]:
    return {"responses": {200: _given(said, media_types, example)}}


INSTANCES = _answers("Part 10 files, each a part", _either(DICOM))
METADATA: dict[str, Any] = {"responses": {200: _models("Headers of the instances")}}
RENDERED = _answers("Pictures", [*_either("image/jpeg", "image/png"), PDF])
FRAMES = _answers("Frames, each a part", _either(OCTETS, *sorted({*FRAME_TYPES.values()})))
THUMBNAIL = _answers("A small picture", ["image/jpeg"])
BULK_DATA = _answers("A long value", _either(OCTETS, PDF))
STORE: dict[str, Any] = {
    "responses": {
        200: _given("All instances are stored", [JSON], _STORED),
        202: _given("Some are stored; the others are named with a Failure Reason", [JSON]),
        409: _given("None is stored", [JSON]),
        413: {"model": Problem, "description": "More bytes or instances than allowed"},
        415: {"model": Problem, "description": "No such body is taken"},
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {one: {"schema": {"type": "string"}} for one in _either(DICOM)},
        }
    },
}
