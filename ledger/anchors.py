"""Heads of the chain noted outside the database: whoever changes the log there can't change these.

A file beside the data, one line a head. It tells whether the end of the log is gone, or the whole
chain was computed anew, since the last note; further copies lie at the audit collector.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ledger.seal import Head

FILE = "audit-anchors.jsonl"


def note_head(data_dir: Path, head: Head, now: float) -> None:
    """Append a head, durably.

    Raises
    ------
    OSError
        It can't be written.
    """
    line = json.dumps({"at": now, "number": head.number, "digest": head.digest}) + "\n"
    descriptor = os.open(data_dir / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def noted_heads(data_dir: Path) -> list[Head]:
    """Return what was noted; a line that a crash cut off is left out."""
    try:
        lines = (data_dir / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    heads = []
    for line in lines:
        try:
            noted = json.loads(line)
            heads.append(Head(int(noted["number"]), str(noted["digest"])))
        except (ValueError, KeyError, TypeError):
            continue
    return heads
