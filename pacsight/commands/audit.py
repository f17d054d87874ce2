"""``pacsight audit``: the event log, its chain and its archives."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ledger.anchors import noted_heads
from ledger.audit import verify_log
from ledger.database import reading
from ledger.event_archive import archive_events, verify_archive
from ledger.seal import Head, read_head
from pacsight.commands.output import Json, print_json
from pacsight.errors import AuditError
from pacsight.settings import load_settings, open_ledger

app = typer.Typer(help="The event log: is it as it was written?", no_args_is_help=True)


@app.command()
def verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="NUMBER:DIGEST that 'pacsight audit head' printed earlier."),
    ] = None,
    archive: Annotated[
        list[Path] | None, typer.Option(help="Also a file of 'pacsight audit archive'.")
    ] = None,
    json: Json = False,
) -> None:
    """Compute the whole chain again; name the first event that isn't what was sealed."""
    try:
        anchors = [Head.parse(text) for text in anchor or []]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--anchor") from error
    settings = load_settings()
    database = open_ledger(settings)
    found = verify_log(database, [*noted_heads(settings.data_dir), *anchors])
    archives = [verify_archive(database, path) for path in archive or []]
    if json:
        print_json(asdict(found))
    else:
        typer.echo(f"{found.rows} events from number {found.first} to {found.head.number} hold.")
        typer.echo(f"Head: {found.head}")
        typer.echo(f"Compared with {found.anchors} heads noted outside the database.")
        for row in archives:
            typer.echo(f"{row.file} holds: events {row.first_number} to {row.last_number}.")
        if found.oldest_unsealed_at is not None:
            age = time.time() - found.oldest_unsealed_at
            typer.echo(f"{found.unsealed} events wait for their seal, the oldest for {age:.0f} s.")
    if found.broken is not None:
        raise AuditError(f"{found.broken.code}: {found.broken.message}")


@app.command()
def head() -> None:
    """Print where the chain ends, to be kept elsewhere and given to 'verify --anchor'."""
    database = open_ledger(load_settings())
    with reading(database) as session:
        typer.echo(str(read_head(session)))


@app.command("archive")
def archive_(
    before: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="Move what is older, local time.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the files.")],
) -> None:
    """Move old events into a file; the chain goes on from there."""
    database = open_ledger(load_settings())
    row = archive_events(
        database, out, before=before.timestamp(), actor="operator", now=time.time()
    )
    if row is None:
        typer.echo("Nothing sealed and sent is older.")
        return
    typer.echo(f"Events {row.first_number} to {row.last_number} are in {out / row.file}.")
    typer.echo(f"SHA-256 {row.sha256}")
