"""Who may associate: the allow-list, the called AE title, users and the number of associations."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass

from scp.config import ListenerConfig


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), and why in words."""

    result: int
    source: int
    diagnostic: int
    reason: str


CALLED_NOT_RECOGNISED = Rejection(1, 1, 7, "the called AE title is not ours")
CALLING_NOT_ALLOWED = Rejection(1, 1, 3, "no entry of allowed_peers fits AE title and address")
IDENTITY_NOT_VERIFIED = Rejection(1, 2, 1, "no user of that name and password")
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2, "max_associations is reached")


class AccessPolicy:
    """The settings that decide about an association request."""

    def __init__(self, config: ListenerConfig) -> None:
        self._own_title = None if config.accept_any_called_ae_title else config.ae_title
        self._max_associations = config.max_associations
        self._users = {
            user.name.encode(): user.password.get_secret_value().encode() for user in config.users
        }
        self._peers = [
            (peer.ae_title, ipaddress.ip_network(peer.address)) for peer in config.allowed_peers
        ]

    @property
    def asks_for_users(self) -> bool:
        """Whether an association needs name and password."""
        return bool(self._users)

    def knows(self, address: str) -> bool:
        """Whether any sender of this IP address may associate."""
        peer = _ip_address(address)
        return any(peer in network for _, network in self._peers)

    def judge(
        self,
        *,
        calling_ae_title: str,
        called_ae_title: str,
        address: str,
        established: int,
        identity: tuple[bytes, bytes] | None = None,
    ) -> Rejection | None:
        """Return why the request is rejected, or None.

        Parameters
        ----------
        address
            The peer's IP address.
        established
            Associations that exist already.
        identity
            Name and passcode that the request brings (PS3.7 section D.3.3.7).
        """
        if not self._is_allowed(calling_ae_title.strip(" "), address):
            return CALLING_NOT_ALLOWED
        if self._own_title is not None and called_ae_title.strip(" ") != self._own_title:
            return CALLED_NOT_RECOGNISED
        if self._users and not self._is_user(identity):
            return IDENTITY_NOT_VERIFIED
        if established >= self._max_associations:
            return LOCAL_LIMIT_EXCEEDED
        return None

    def _is_allowed(self, title: str, address: str) -> bool:
        peer = _ip_address(address)
        return any(allowed in ("*", title) and peer in network for allowed, network in self._peers)

    def _is_user(self, identity: tuple[bytes, bytes] | None) -> bool:
        if identity is None:
            return False
        name, passcode = identity
        # an unknown name takes as long as a wrong passcode
        is_right = hmac.compare_digest(self._users.get(name, b""), passcode)
        return is_right and name in self._users


def _ip_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    peer = ipaddress.ip_address(address)
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        return peer.ipv4_mapped  # an IPv4 sender on a dual-stack socket
    return peer
