"""DICOM audit messages as XML: the schema of PS3.15 section A.5.1.1.

Values are as general as the schema; :mod:`pacsight.audit.trail` says which event becomes what.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from ledger.domain import Code

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
IP_ADDRESS = "2"
MACHINE_NAME = "1"
"""Network access point type codes."""


def event_id(value: str, meaning: str) -> Code:
    """Return a code of PS3.16 Annex D (DCM)."""
    return Code(value, "DCM", meaning)


@dataclass(frozen=True, slots=True)
class Participant:
    """Who or what took an active part (A.5.2: Active Participant)."""

    user_id: str
    is_requestor: bool
    roles: tuple[Code, ...] = ()
    alternative_user_id: str = ""
    """``AETITLES=…`` of a DICOM application (A.5.2.2)"""
    access_point: str = ""
    access_point_type: str = IP_ADDRESS
    media_type: Code | None = None


@dataclass(frozen=True, slots=True)
class AuditObject:
    """What the event was about (A.5.2: Participant Object)."""

    object_id: str
    id_type: Code
    type_code: str
    role: str
    name: str = ""
    query: bytes | None = None
    """what was asked; the schema has either a name or a query"""
    details: Mapping[str, str] = field(default_factory=dict)
    accession_number: str = ""
    sop_classes: Mapping[str, int] = field(default_factory=dict)
    """instances by SOP Class UID"""


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One audited event."""

    event: Code
    action: str
    """C, R, U, D or E"""
    at: float
    """seconds since 1970 UTC"""
    outcome: int
    """0 success, 4 minor, 8 serious, 12 major failure"""
    participants: Sequence[Participant]
    types: Sequence[Code] = ()
    outcome_description: str = ""
    objects: Sequence[AuditObject] = ()

    def to_xml(self, *, source_id: str, site_id: str = "") -> bytes:
        """Return the message in UTF-8, as `source_id` reports it."""
        root = Element("AuditMessage")
        event = SubElement(
            root,
            "EventIdentification",
            {
                "EventActionCode": self.action,
                "EventDateTime": timestamp(self.at),
                "EventOutcomeIndicator": str(self.outcome),
            },
        )
        _coded(event, "EventID", self.event)
        for code in self.types:
            _coded(event, "EventTypeCode", code)
        if self.outcome_description:
            SubElement(event, "EventOutcomeDescription").text = _clean(self.outcome_description)
        for participant in self.participants:
            _participant(root, participant)
        source = _attributes(AuditEnterpriseSiteID=site_id, AuditSourceID=source_id)
        reporter = SubElement(root, "AuditSourceIdentification", source)
        SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})  # application server
        for item in self.objects:
            _object(root, item)
        return tostring(root, encoding="UTF-8", xml_declaration=True)


def timestamp(at: float) -> str:
    """Return a time as xsd:dateTime in UTC, with milliseconds; RFC 5424 takes the same."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _participant(root: Element, item: Participant) -> None:
    has_point = bool(item.access_point)
    element = SubElement(
        root,
        "ActiveParticipant",
        _attributes(
            UserID=item.user_id,
            AlternativeUserID=item.alternative_user_id,
            UserIsRequestor="true" if item.is_requestor else "false",
            NetworkAccessPointID=item.access_point,
            NetworkAccessPointTypeCode=item.access_point_type if has_point else "",
        ),
    )
    for role in item.roles:
        _coded(element, "RoleIDCode", role)
    if item.media_type is not None:
        _coded(SubElement(element, "MediaIdentifier"), "MediaType", item.media_type)


def _object(root: Element, item: AuditObject) -> None:
    element = SubElement(
        root,
        "ParticipantObjectIdentification",
        _attributes(
            ParticipantObjectID=item.object_id,
            ParticipantObjectTypeCode=item.type_code,
            ParticipantObjectTypeCodeRole=item.role,
        ),
    )
    _coded(element, "ParticipantObjectIDTypeCode", item.id_type)
    if item.query is None:
        SubElement(element, "ParticipantObjectName").text = _clean(item.name or item.object_id)
    else:
        SubElement(element, "ParticipantObjectQuery").text = base64.b64encode(item.query).decode()
    for kind, value in item.details.items():
        encoded = base64.b64encode(value.encode()).decode()
        SubElement(element, "ParticipantObjectDetail", {"type": kind, "value": encoded})
    if item.sop_classes or item.accession_number:
        about = SubElement(element, "ParticipantObjectDescription")
        if item.accession_number:
            SubElement(about, "Accession", _attributes(Number=item.accession_number))
        for uid, count in item.sop_classes.items():
            SubElement(about, "SOPClass", {"UID": _clean(uid), "NumberOfInstances": str(count)})


def _coded(parent: Element, name: str, code: Code) -> None:
    attributes = {
        "csd-code": code.value,
        "codeSystemName": code.scheme,
        "originalText": code.meaning,
    }
    SubElement(parent, name, attributes)


def _attributes(**values: str) -> dict[str, str]:
    return {name: _clean(value) for name, value in values.items() if value}


def _clean(text: str) -> str:
    """Leave out what XML can't hold, such as NUL."""
    return _NOT_XML.sub("", text)
