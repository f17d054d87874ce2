"""``pacsight deliveries``: the outbox."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ledger.database import reading, transaction
from ledger.deliveries import retry_deliveries
from ledger.domain import DeliveryState
from ledger.queries import list_deliveries
from pacsight.commands.output import Json, in_words, print_json, print_table
from pacsight.errors import NotFoundError
from pacsight.settings import load_settings, open_ledger

app = typer.Typer(help="Results on their way to the PACS.", no_args_is_help=True)


@app.command("list")
def list_(
    state: Annotated[
        DeliveryState | None, typer.Option(help="Only these: pending, delivered or dead.")
    ] = None,
    json: Json = False,
) -> None:
    """List deliveries, newest first: since when, what proves them, why they are not there."""
    database = open_ledger(load_settings())
    with reading(database) as session:
        rows = list_deliveries(session, state=state)
    now = time.time()
    for row in rows:
        ended_at = row["delivered_at"] or now
        row["age_s"] = max(0.0, ended_at - row["queued_at"])
    if json:
        print_json(rows)
        return
    columns = (
        "id", "destination", "kind", "state", "proof", "age", "attempts", "last_error",
        "sop_instance_uid",
    )  # fmt: skip
    cells = [{**row, "age": in_words(row["age_s"])} for row in rows]
    print_table("Deliveries", columns, [[row[name] or "" for name in columns] for row in cells])


@app.command()
def retry(
    delivery_id: Annotated[
        int | None, typer.Argument(help="Which; default: every dead one and every waiting one.")
    ] = None,
) -> None:
    """Send again now what was given up or waits for its next attempt."""
    database = open_ledger(load_settings())
    with transaction(database) as session:
        count = retry_deliveries(
            session, delivery_id=delivery_id, actor="operator", now=time.time()
        )
    if delivery_id is not None and not count:
        raise NotFoundError(
            f"There is no undelivered delivery {delivery_id}; see 'pacsight deliveries list'."
        )
    typer.echo(f"Deliveries that are tried again now: {count}.")
