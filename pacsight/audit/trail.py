"""Which events of the log become which DICOM audit messages (PS3.15 section A.5.3).

What isn't about people, patients, peers or this program itself stays in the log alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.destination import Destination
from dicom_out.query import encode_identifier, identifier_of
from ledger.domain import Code
from ledger.tables import Decision, Event, ResultObjectRow, Revision, Study
from pacsight.audit import codes
from pacsight.audit.message import MACHINE_NAME, AuditMessage, AuditObject, Participant

SUCCESS, MINOR, SERIOUS = 0, 4, 8
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND"""
PERSON, SYSTEM = "1", "2"
PATIENT, REPORT, SECURITY_USER, SECURITY_RESOURCE = "1", "3", "11", "13"
_OUTCOMES = {"delivered": SUCCESS, "pending": MINOR, "lost": MINOR, "dead": SERIOUS}


@dataclass(frozen=True, slots=True)
class Ourselves:
    """Who reports."""

    ae_title: str
    host: str
    source_id: str
    destinations: Mapping[str, Destination]


_Teller: TypeAlias = Callable[["_Story"], AuditMessage]


def message_of(session: Session, event: Event, ourselves: Ourselves) -> AuditMessage | None:
    """Return what to tell an audit repository about an event; None if that is nothing."""
    tell = _TELLERS.get(event.action)
    return None if tell is None else tell(_Story(session, event, ourselves))


@dataclass(frozen=True, slots=True)
class _Story:
    """An event, and what is to be known about it."""

    session: Session
    event: Event
    us: Ourselves

    def message(
        self,
        event: Code,
        action: str,
        participants: Iterable[Participant],
        objects: Iterable[AuditObject] = (),
    ) -> AuditMessage:
        return AuditMessage(
            event, action, self.event.at, SUCCESS, tuple(participants), objects=tuple(objects)
        )

    def ourselves(self, *roles: Code, is_requestor: bool = False) -> Participant:
        """Return this application as it takes part."""
        return Participant(
            f"pacsight@{self.us.host}",
            is_requestor,
            roles,
            f"AETITLES={self.us.ae_title}",
            self.us.host,
            MACHINE_NAME,
        )

    def user(self, *roles: Code) -> Participant:
        """Return the person who did it, as login@source (A.5.2.1)."""
        return Participant(f"{self.event.actor}@{self.us.source_id}", True, roles)

    def destination(self, name: str, *roles: Code) -> Participant:
        """Return a destination of results, as far as the settings still know it."""
        known = self.us.destinations.get(name)
        if known is None:
            return Participant(name, False, roles)
        return Participant(
            name, False, roles, f"AETITLES={known.ae_title}", known.host, MACHINE_NAME
        )

    def study(self) -> Study | None:
        """Return the study that the event is about: by its own UID or that of a result."""
        query = select(Study).where(Study.study_instance_uid == self.event.subject)
        if self.event.action.startswith("delivery."):
            query = (
                select(Study)
                .join(Revision, Revision.study_id == Study.id)
                .join(Decision, Decision.revision_id == Revision.id)
                .join(ResultObjectRow, ResultObjectRow.decision_id == Decision.id)
                .where(ResultObjectRow.sop_instance_uid == self.event.subject)
            )
        return self.session.scalar(query) or self.session.scalar(
            select(Study).where(Study.study_instance_uid == self.event.subject)
        )

    def about_study(self, sop_classes: Mapping[str, int] | None = None) -> list[AuditObject]:
        """Return study and patient."""
        study = self.study()
        uid = self.event.subject if study is None else study.study_instance_uid
        patient = "" if study is None else study.patient_id
        return [
            AuditObject(
                uid,
                codes.STUDY_INSTANCE_UID,
                SYSTEM,
                REPORT,
                accession_number="" if study is None else study.accession_number.strip(),
                sop_classes=sop_classes or {},
            ),
            AuditObject(
                patient or "unknown",
                codes.PATIENT_NUMBER,
                PERSON,
                PATIENT,
                name=(study.patient_name if study else "") or "unknown",
            ),
        ]


def _activity(kind: Code, story: _Story) -> AuditMessage:
    said = story.message(codes.APPLICATION_ACTIVITY, "E", [story.ourselves(codes.APPLICATION)])
    return replace(said, types=(kind,))


def _authentication(kind: Code, outcome: int, story: _Story) -> AuditMessage:
    said = story.message(codes.USER_AUTHENTICATION, "E", [story.user(), story.ourselves()])
    return replace(said, types=(kind,), outcome=outcome)


def _accessed(action: str, story: _Story) -> AuditMessage:
    who = [story.user(), story.ourselves()]
    return story.message(codes.INSTANCES_ACCESSED, action, who, story.about_study())


def _exported(story: _Story) -> AuditMessage:
    browser = Participant(
        "web browser", False, (codes.DESTINATION_MEDIA,), media_type=codes.MEDIA_URI
    )
    who = [story.user(codes.SOURCE), story.ourselves(codes.SOURCE), browser]
    return story.message(codes.EXPORT, "R", who, story.about_study())


def _imported(story: _Story) -> AuditMessage:
    browser = Participant("web browser", False, (codes.SOURCE_MEDIA,), media_type=codes.MEDIA_URI)
    who = [story.user(codes.DESTINATION), story.ourselves(codes.DESTINATION), browser]
    return story.message(codes.IMPORT, "C", who, story.about_study())


def _received(story: _Story) -> AuditMessage:
    detail = story.event.detail
    sender = Participant(
        story.event.actor,
        True,
        (codes.SOURCE,),
        f"AETITLES={story.event.actor}",
        detail["address"],
    )
    objects = story.about_study(detail["sop_classes"])
    who = [sender, story.ourselves(codes.DESTINATION)]
    return story.message(codes.INSTANCES_TRANSFERRED, "C", who, objects)


def _begun(story: _Story) -> AuditMessage:
    who = [
        story.ourselves(codes.SOURCE, is_requestor=True),
        story.destination(story.event.actor, codes.DESTINATION),
    ]
    objects = story.about_study(story.event.detail["sop_classes"])
    return story.message(codes.BEGIN_TRANSFERRING, "E", who, objects)


def _sent(story: _Story) -> AuditMessage:
    row = story.session.scalar(
        select(ResultObjectRow).where(ResultObjectRow.sop_instance_uid == story.event.subject)
    )
    who = [
        story.ourselves(codes.SOURCE, is_requestor=True),
        story.destination(story.event.actor, codes.DESTINATION),
    ]
    objects = story.about_study({} if row is None else {row.sop_class_uid: 1})
    said = story.message(codes.INSTANCES_TRANSFERRED, "C", who, objects)
    state, status = story.event.action.removeprefix("delivery."), story.event.detail.get("status")
    described = "" if status is None else f"C-STORE status 0x{status:04X}"
    return replace(
        said,
        outcome=_OUTCOMES[state],
        outcome_description="" if state == "delivered" else described or "not stored",
    )


def _deleted(story: _Story) -> AuditMessage:
    who = [story.ourselves(is_requestor=True)]
    return story.message(codes.STUDY_DELETED, "D", who, story.about_study())


def _asked(story: _Story) -> AuditMessage:
    """Tell a search of the worklist: which fields it used, for the log keeps no more."""
    fields = json.dumps(story.event.detail.get("asked_by", [])).encode()
    query = AuditObject(STUDY_ROOT_FIND, codes.SOP_CLASS_UID, SYSTEM, REPORT, query=fields)
    who = [story.user(codes.SOURCE), story.ourselves(codes.DESTINATION)]
    return story.message(codes.QUERY, "E", who, [query])


def _query(story: _Story) -> AuditMessage:
    """Tell a C-FIND of our own: the identifier, as A.5.3.10 wants it."""
    event = story.event
    asked = event.detail
    identifier = identifier_of(
        asked["level"], event.subject, tuple(asked["keys"]), asked.get("series", "")
    )
    encoded, syntax = encode_identifier(identifier)
    query = AuditObject(
        STUDY_ROOT_FIND,
        codes.SOP_CLASS_UID,
        SYSTEM,
        REPORT,
        query=encoded,
        details={"TransferSyntax": syntax},
    )
    peer = Participant(
        event.actor,
        False,
        (codes.DESTINATION,),
        f"AETITLES={event.actor}",
        event.detail["address"],
        MACHINE_NAME,
    )
    who = [story.ourselves(codes.SOURCE, is_requestor=True), peer]
    return story.message(codes.QUERY, "E", who, [query])


def _alert(kind: Code, story: _Story) -> AuditMessage:
    subject = story.event.subject
    about = AuditObject(
        subject,
        codes.USER_IDENTIFIER if subject.startswith("user:") else codes.URI,
        SYSTEM,
        SECURITY_USER if subject.startswith("user:") else SECURITY_RESOURCE,
        details={"Alert Description": f"{story.event.action} by {story.event.actor}"},
    )
    who = [story.user(), story.ourselves()]
    return replace(story.message(codes.SECURITY_ALERT, "E", who, [about]), types=(kind,))


def _rejected(story: _Story) -> AuditMessage:
    """Tell of a peer that isn't who may associate."""
    detail = story.event.detail
    address = story.event.subject.removeprefix("peer:")
    about = AuditObject(
        address,
        codes.NODE_ID,
        SYSTEM,
        SECURITY_RESOURCE,
        details={"Alert Description": f"{detail['count']} associations: {detail['reason']}"},
    )
    title = story.event.actor
    peer = Participant(title, True, (), f"AETITLES={title}", address)
    said = story.message(codes.SECURITY_ALERT, "E", [story.ourselves(), peer], [about])
    return replace(said, types=(codes.NODE_AUTHENTICATION,), outcome=MINOR)


def _log_used(story: _Story) -> AuditMessage:
    """Tell who read the log; what was found, or where the chain stands, goes along as details."""
    detail = {key: str(value) for key, value in story.event.detail.items() if value is not None}
    about = AuditObject(
        f"pacsight:{story.us.source_id}/events",
        codes.URI,
        SYSTEM,
        SECURITY_RESOURCE,
        name="Security Audit Log",
        details=detail,
    )
    who = [story.ourselves(is_requestor=True)]
    if story.event.actor != "audit":
        who = [story.user(), story.ourselves()]
    if story.event.detail.get("code"):
        said = story.message(codes.SECURITY_ALERT, "E", who, [about])
        return replace(said, types=(codes.USE_OF_RESTRICTED_FUNCTION,), outcome=SERIOUS)
    return story.message(codes.AUDIT_LOG_USED, "R", who, [about])


_ROLES, _ACCOUNT = codes.SECURITY_ROLES_CHANGED, codes.USER_SECURITY_ATTRIBUTES_CHANGED
_TELLERS: Mapping[str, _Teller] = {
    "program.started": partial(_activity, codes.APPLICATION_START),
    "program.stopped": partial(_activity, codes.APPLICATION_STOP),
    "web.signed_in": partial(_authentication, codes.LOGIN, SUCCESS),
    "web.sign_in_failed": partial(_authentication, codes.LOGIN, MINOR),
    "web.signed_out": partial(_authentication, codes.LOGOUT, SUCCESS),
    "study.viewed": partial(_accessed, "R"),
    "study.retrieved": partial(_accessed, "R"),
    "result.reviewed": partial(_accessed, "U"),
    "study.released": partial(_accessed, "U"),
    "study.exported": _exported,
    "study.uploaded": _imported,
    "instances.received": _received,
    "delivery.begun": _begun,
    "delivery.delivered": _sent,
    "delivery.pending": _sent,
    "delivery.lost": _sent,
    "delivery.dead": _sent,
    "study.expired": _deleted,
    "worklist.searched": _asked,
    "worklist.exported": _asked,
    "peer.queried": _query,
    "association.rejected": _rejected,
    "user.added": partial(_alert, _ROLES),
    "user.changed": partial(_alert, _ROLES),
    "user.password_changed": partial(_alert, _ACCOUNT),
    "token.made": partial(_alert, _ACCOUNT),
    "token.revoked": partial(_alert, _ACCOUNT),
    "model.switched_on": partial(_alert, codes.SOFTWARE_CONFIGURATION),
    "model.switched_off": partial(_alert, codes.SOFTWARE_CONFIGURATION),
    "events.read": _log_used,
    "audit.noted": _log_used,
    "audit.verified": _log_used,
    "audit.archived": _log_used,
}
