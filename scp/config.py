"""Settings of the receive path: frozen, validated once, passed in."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ledger.secret import Secret
from scp.tls import ClientTls, ServerTls


def _check_ae_title(value: str) -> str:
    """AE of PS3.5 section 6.2: 1 to 16 of the default repertoire, no backslash, no control."""
    title = value.strip(" ")
    if not 0 < len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return title


def _check_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError(
            "write an IP address or a network such as 10.1.2.0/24 or 2001:db8::/32"
        ) from error


AeTitle = Annotated[str, AfterValidator(_check_ae_title)]
Network = Annotated[str, AfterValidator(_check_network)]


class Section(BaseModel):
    """Base of these settings: unknown keys are errors, values don't change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AllowedPeer(Section):
    """A sender that may associate: AE title (``*`` is any) and IP address or network."""

    ae_title: AeTitle = "*"
    address: Network = "127.0.0.0/8"


class User(Section):
    """Who may associate by name and password (User Identity Negotiation, PS3.7 D.3.3.7)."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    password: Secret


class ListenerConfig(Section):
    """How the listener receives. Only this machine may send until ``allowed_peers`` says more."""

    ae_title: AeTitle = "PACSIGHT"
    accept_any_called_ae_title: bool = False
    host: str = "0.0.0.0"  # noqa: S104 - the allow-list decides who may associate
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    """0: any free port"""
    allowed_peers: tuple[AllowedPeer, ...] = (AllowedPeer(),)
    tls: ServerTls | None = None
    """connections are then TLS only"""
    users: tuple[User, ...] = ()
    """with any, an association must bring name and password of one"""
    max_associations: Annotated[int, Field(ge=1)] = 64
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 1 << 17
    """offered to senders, and the longest P-DATA-TF PDU taken (PS3.8 section D.1)"""
    max_message_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    """longest command set, and longest data set of any service but C-STORE"""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """an association that sends nothing for so long is aborted"""
    stall_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """a PDU that stops in the middle for so long ends the association"""
    artim_timeout_s: Annotated[float, Field(gt=0)] = 15.0
    """for the A-ASSOCIATE-RQ to come, and for closing (PS3.8 section 9.1.5)"""
    commit_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """longest wait for a locked ledger before the sender gets 0xA700"""
    disk_reserve_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    """free space kept in the spool's file system; below it the sender gets 0xA700"""
    commits_storage: bool = True
    """promise senders that ask that their objects are held here, for as long as retention says"""
    segment_bytes: Annotated[int, Field(ge=1 << 16)] = 1 << 28
    """a spool segment that has reached this size is closed"""

    @model_validator(mode="after")
    def _passwords_are_not_sent_in_the_clear(self) -> Self:
        if self.users and self.tls is None:
            raise ValueError(
                "users need tls; without it their passwords cross the network readable"
            )
        return self


class Source(Section):
    """A sender that can be asked what it holds (C-FIND, Study Root)."""

    ae_title: AeTitle
    """with which it sends, and under which it is asked"""
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    tls: ClientTls | None = None
    """to ask it through TLS"""
    sends_whole_studies: bool = False
    """it begins to send a study when it has all of it: then its count proves completeness"""
    timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """patience for the connection and each answer"""


class StatRule(Section):
    """Studies that go first: where all of these patterns fit (``*`` and ``?``, any case)."""

    calling_ae_title: str = "*"
    modality: str = "*"
    body_part_examined: str = "*"
    study_description: str = "*"


class CompletenessConfig(Section):
    """When a study is complete: proven, or quiet after the last instance, or at the cap."""

    quiet_s: Annotated[float, Field(ge=0)] = 3.0
    """of images that stand alone, such as radiographs"""
    stack_quiet_s: Annotated[float, Field(ge=0)] = 35.0
    """of slices: a scanner pauses between series, and nothing tells a pause from the end"""
    missing_quiet_s: Annotated[float, Field(ge=0)] = 120.0
    """when something is known to be missing"""
    broken_quiet_s: Annotated[float, Field(ge=0)] = 30.0
    """after an association that was aborted or lost: its sender may come back"""
    cap_s: Annotated[float, Field(gt=0)] = 600.0
