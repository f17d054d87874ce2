"""Associations that are opened and left, some hundred at a time.

``python -m tests.reliability.left_open --associations 10000`` starts a receiver, opens connections
of which a third asks for an association and says no more, a third stops in the middle of asking,
and a third never says a word, and prints what that cost the receiver.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import socket
import sys
import time
from dataclasses import dataclass

from tests.reliability.fuzz import Receiver, answers_echo, receiver, stores
from tests.reliability.mutations import CONTEXTS
from tests.scp.raw_peer import associate_rq

AT_A_TIME = 300
LIMIT = 2 * 64 + 16
"""Connections that the receiver keeps: twice `scp.max_associations`, and some to be rejected."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the receiver; memory in MB before and afterwards."""

    associations: int
    memory_mb: tuple[float, float]
    most_descriptors: int
    descriptors: int
    echo_answered: bool
    valid_object_stored: bool

    @property
    def is_fine(self) -> bool:
        before, after = self.memory_mb
        return (
            self.most_descriptors < 2 * LIMIT + 40  # each association takes two
            and self.descriptors < 40
            and after < before + 60
            and self.echo_answered
            and self.valid_object_stored
        )


def leave_open(target: Receiver, count: int) -> Cost:
    """Open `count` connections, never more than some hundred at a time, then look."""
    request = associate_rq(CONTEXTS)
    assert answers_echo(target.port)
    before, most = target.memory_mb, 0
    left: list[socket.socket] = []
    for number in range(count):
        with contextlib.suppress(OSError):
            one = socket.create_connection(("127.0.0.1", target.port), timeout=10)
            left.append(one)
            one.sendall((request, request[:40], b"")[number % 3])
        if len(left) > AT_A_TIME:
            left.pop(0).close()
        if number % 100 == 0:
            most = max(most, target.descriptors)
    most = max(most, target.descriptors)
    for one in left:
        one.close()
    while target.threads > 8:
        time.sleep(0.2)
    return Cost(
        associations=count,
        echo_answered=answers_echo(target.port),
        valid_object_stored=stores(target),
        memory_mb=(round(before, 1), round(target.memory_mb, 1)),
        most_descriptors=most,
        descriptors=target.descriptors,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--associations", type=int, default=10_000)
    options = parser.parse_args()
    with receiver() as target:
        cost = leave_open(target, options.associations)
    print(json.dumps({**dataclasses.asdict(cost), "fine": cost.is_fine}))
    sys.exit(not cost.is_fine)


if __name__ == "__main__":
    main()
