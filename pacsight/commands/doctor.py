"""``pacsight doctor``: the health of this installation."""

from __future__ import annotations

from dataclasses import asdict

import typer

from pacsight.commands.output import Json, print_json, print_table
from pacsight.settings import load_settings


def doctor(json: Json = False) -> None:
    """Check settings, disk, ledger, models, port and every destination (C-ECHO)."""
    from pacsight.health import examine

    checks = list(examine(load_settings()))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [("ok" if check.is_ok else "FAIL", check.name, check.message) for check in checks]
        print_table("Health", ("", "what", "finding"), rows)
    if not all(check.is_ok for check in checks):
        raise typer.Exit(1)
