"""``pacsight retention``: what goes, what went, and why the rest stays."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from pacsight.commands.output import Json, print_json, print_table
from pacsight.settings import load_settings, open_ledger


def retention(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be removed.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove now what the worker removes every 15 minutes: old, delivered studies; leftovers."""
    from pacsight.retention import Retention

    settings = load_settings()
    outcome = Retention(settings, open_ledger(settings), time.time).once(is_dry=dry_run)
    if json:
        print_json({"is_dry": dry_run, **asdict(outcome)})
        return
    rules = settings.retention
    if rules.keep_days is None and rules.keep_bytes is None:
        typer.echo("No rule is set (retention.keep_days, retention.keep_bytes): studies stay.")
    rows = [
        (rule, one.study_instance_uid, _megabytes(one.size))
        for rule, studies in (("age", outcome.by_age), ("size", outcome.by_size))
        for one in studies
    ]
    print_table("Would be removed" if dry_run else "Removed", ("rule", "study", "size"), rows)
    if outcome.kept_because:
        counts = ", ".join(f"{count} {code}" for code, count in outcome.kept_because.items())
        typer.echo(f"Old enough and kept all the same: {counts}.")
    swept = outcome.swept
    verb = "would be removed" if dry_run else "removed"
    files, size = (
        (swept.stray_files, swept.stray_bytes) if dry_run else (swept.files, swept.freed_bytes)
    )
    typer.echo(f"Files that nobody needs, {verb}: {files}, {_megabytes(size)}.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
