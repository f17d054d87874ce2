"""The allow-list as a table."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scp.access import (
    CALLED_NOT_RECOGNISED,
    CALLING_NOT_ALLOWED,
    LOCAL_LIMIT_EXCEEDED,
    AccessPolicy,
    Rejection,
)
from scp.config import AllowedPeer, CompletenessConfig, ListenerConfig

PEERS = (
    AllowedPeer(ae_title="CT1", address="10.0.0.5"),
    AllowedPeer(ae_title="*", address="192.168.7.0/24"),
    AllowedPeer(ae_title="MR1", address="2001:db8::/32"),
)


@pytest.mark.parametrize(
    ("calling", "called", "address", "established", "expected"),
    [
        ("CT1", "PACSIGHT", "10.0.0.5", 0, None),
        (" CT1 ", "PACSIGHT ", "10.0.0.5", 1, None),
        ("CT1", "PACSIGHT", "::ffff:10.0.0.5", 0, None),
        ("ANY", "PACSIGHT", "192.168.7.255", 0, None),
        ("MR1", "PACSIGHT", "2001:db8::1", 0, None),
        ("CT1", "PACSIGHT", "10.0.0.6", 0, CALLING_NOT_ALLOWED),
        ("ct1", "PACSIGHT", "10.0.0.5", 0, CALLING_NOT_ALLOWED),
        ("*", "PACSIGHT", "10.0.0.5", 0, CALLING_NOT_ALLOWED),
        ("MR1", "PACSIGHT", "2001:db9::1", 0, CALLING_NOT_ALLOWED),
        ("ANY", "OTHER", "192.168.7.1", 0, CALLED_NOT_RECOGNISED),
        ("ANY", "PACSIGHT", "192.168.7.1", 2, LOCAL_LIMIT_EXCEEDED),
        ("CT2", "OTHER", "10.0.0.5", 2, CALLING_NOT_ALLOWED),
    ],
)
def test_policy(
    calling: str, called: str, address: str, established: int, expected: Rejection | None
) -> None:
    policy = AccessPolicy(ListenerConfig(allowed_peers=PEERS, max_associations=2))
    assert (
        policy.judge(
            calling_ae_title=calling,
            called_ae_title=called,
            address=address,
            established=established,
        )
        == expected
    )


def test_by_default_only_this_machine_may_send() -> None:
    policy = AccessPolicy(ListenerConfig())
    for address, expected in (("127.0.0.1", None), ("192.168.0.1", CALLING_NOT_ALLOWED)):
        assert (
            policy.judge(
                calling_ae_title="A", called_ae_title="PACSIGHT", address=address, established=0
            )
            == expected
        )


@pytest.mark.parametrize("title", ["", "   ", "SEVENTEEN_LETTERS", "A\\B", "GRÜN", "A\tB"])
def test_impossible_ae_title_is_refused(title: str) -> None:
    with pytest.raises(ValidationError, match="1 to 16 printable ASCII"):
        AllowedPeer(ae_title=title)


@pytest.mark.parametrize("address", ["", "pacs.example.org", "10.0.0.0/33", "10.0.0"])
def test_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="IP address or a network"):
        AllowedPeer(address=address)


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        CompletenessConfig.model_validate({"quiet": 3})
