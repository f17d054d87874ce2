"""``pacsight selftest``: what a destination takes, and what its readers should see."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from pacsight.commands.destinations import find_destination
from pacsight.commands.output import Json, print_json, print_table
from pacsight.errors import SelfTestError
from pacsight.settings import load_settings


def selftest(
    to: Annotated[str, typer.Option(help="Name of a destination in the settings.")],
    json: Json = False,
) -> None:
    """Send a drawn study with its results to a destination, and say what to see there."""
    from pacsight.selftest import PATIENT, run_selftest

    settings = load_settings()
    destination = find_destination(settings, to)
    shown = run_selftest(settings, destination, datetime.now().astimezone())
    if json:
        print_json(
            [
                {
                    "kind": row.kind,
                    "count": row.count,
                    "expected": row.expected,
                    "delivered": row.is_delivered,
                    "answer": row.answer,
                }
                for row in shown
            ]
        )
    else:
        title = (
            f"Self-test of {destination.name}, profile {destination.profile}: open the newest "
            f"study of {PATIENT.patient_id}"
        )
        rows = [(f"{row.count} {row.kind}", row.expected, row.answer) for row in shown]
        print_table(title, ("what", "the reader should see", "answer"), rows)
    refused = [row for row in shown if not row.is_delivered]
    if refused:
        kinds = ", ".join(row.kind for row in refused)
        raise SelfTestError(
            f"'{destination.name}' did not take {kinds}; {refused[0].answer} Allow it there, or "
            "choose another profile."
        )
