"""Which presentation contexts are accepted: every storage class and syntax, unknown ones too.

Objects are stored as received, never decoded, so the transfer syntax is the sender's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from pydicom.uid import UID, UID_dictionary
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from scp.store_message import is_uid

_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR: for media, not for C-STORE
_LAST_CHOICE = frozenset(
    {
        "1.2.840.10008.1.2.1.99",  # deflated: unbounded memory to read a header
        "1.2.840.10008.1.2.4.94",  # JPIP referenced: the pixels stay on another server
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.204",
        "1.2.840.10008.1.2.4.205",
    }
)


@lru_cache(maxsize=1024)  # asked for every object; pynetdicom searches lists
def is_storage_sop_class(uid: UID) -> bool:
    """Whether objects of this class come by C-STORE: known as such, private, or unknown."""
    service = uid_to_service_class(uid)
    if issubclass(service, StorageServiceClass):
        return True
    if service is not ServiceClass:
        return False
    if uid not in UID_dictionary:
        return True
    # retired storage classes, and those newer than pynetdicom; not other services without a home
    return uid.type == "SOP Class" and "Storage" in uid.name and uid != _MEDIA_STORAGE_DIRECTORY


def supported_contexts(
    proposed: Iterable[PresentationContext], own: Sequence[PresentationContext]
) -> list[PresentationContext]:
    """Return what to negotiate with: `own`, and every storage class as it was proposed.

    The acceptor picks one transfer syntax per context (PS3.8 section 9.3.3.2): the first that the
    sender names, but for syntaxes that are hard to read later.

    Parameters
    ----------
    proposed
        Of the A-ASSOCIATE-RQ.
    own
        Contexts of the services that pynetdicom serves; they win over the rule.
    """
    named = {context.abstract_syntax for context in own}
    syntaxes: dict[UID, dict[UID, None]] = {}
    for context in proposed:
        uid = context.abstract_syntax
        if uid is not None and uid not in named and is_uid(uid) and is_storage_sop_class(uid):
            known = syntaxes.setdefault(uid, {})
            known.update(dict.fromkeys(s for s in context.transfer_syntax if is_uid(s)))
    return [
        *own,
        *(
            build_context(uid, sorted(choices, key=_LAST_CHOICE.__contains__))
            for uid, choices in syntaxes.items()
            if choices
        ),
    ]
