"""What of one decision goes to whom: every object written once, in the forms that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicom_out.destination import Destination
from dicom_out.encodings import encode_as
from dicom_out.model_result import ResultObject
from dicom_out.profile import STANDARD, TRANSFER_SYNTAXES, Profile
from pacsight.settings import Settings

UNCOMPRESSED = TRANSFER_SYNTAXES["uncompressed"]
SHOWN = STANDARD.model_copy(update={"name": "web", "pdf": True})
"""What the web app shows and ``pacsight analyze`` writes, whatever destinations get."""


@dataclass(slots=True)
class Addressed:
    """A result object with its compressed forms and its destinations.

    Attributes
    ----------
    item
        The object, uncompressed.
    encodings
        The same by transfer syntax, where somebody wants it compressed and it can be.
    destinations
        Name of each destination to the transfer syntax that it prefers.
    """

    item: ResultObject
    encodings: dict[str, ResultObject] = field(default_factory=dict)
    destinations: dict[str, str] = field(default_factory=dict)


def address(
    settings: Settings, encode: Callable[[Profile], Sequence[ResultObject]]
) -> list[Addressed]:
    """Return the objects that the destinations and the web app want.

    Parameters
    ----------
    encode
        Writes the bundle of a profile. Objects that two profiles share have the same UID, and are
        kept once.
    """
    found: dict[str, Addressed] = {}
    readers: dict[Profile, list[Destination]] = {}
    for destination in settings.destinations:
        readers.setdefault(settings.profile_of(destination), []).append(destination)
    readers.setdefault(SHOWN, [])
    for profile, who in readers.items():
        preferred = TRANSFER_SYNTAXES[profile.transfer_syntax]
        for item in encode(profile):
            addressed = found.setdefault(item.sop_instance_uid, Addressed(item))
            chosen = _encoded(addressed, preferred)
            names = (destination.name for destination in who)
            addressed.destinations.update(dict.fromkeys(names, chosen))
    return list(found.values())


def _encoded(addressed: Addressed, transfer_syntax_uid: str) -> str:
    """Compress an object if that is wanted and possible; return the transfer syntax it gets."""
    if transfer_syntax_uid == UNCOMPRESSED:
        return UNCOMPRESSED
    if transfer_syntax_uid not in addressed.encodings:
        encoded = encode_as(addressed.item, transfer_syntax_uid)
        if encoded is None:
            return UNCOMPRESSED
        addressed.encodings[transfer_syntax_uid] = encoded
    return transfer_syntax_uid
