"""``pacsight send``: a C-STORE SCU for files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from dicom_out.destination import DeliveryReceipt
from pacsight.commands.destinations import find_destination, parse_address
from pacsight.commands.output import Json, print_json
from pacsight.settings import load_settings


def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files and folders.", exists=True)],
    to: Annotated[
        str, typer.Option(help="Name of a destination in the settings, or AET@HOST:PORT.")
    ],
    json: Json = False,
) -> None:
    """Send DICOM files to a PACS (C-STORE)."""
    from dicom_out.delivery import send as send_files

    settings = load_settings()
    destination = parse_address(to) if "@" in to else find_destination(settings, to)
    with Progress(transient=True, disable=json) as progress:
        task = progress.add_task("Sending", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        receipts = send_files(
            paths,
            destination,
            calling_ae_title=settings.scp.ae_title,
            on_progress=report,
        )
    failed = [receipt for receipt in receipts if not receipt.is_delivered]
    if json:
        print_json([_row(receipt) for receipt in receipts])
    else:
        typer.echo(f"{len(receipts) - len(failed)} sent, {len(failed)} not.")
        for receipt in failed:
            typer.echo(f"{receipt.path}: {receipt.code}: {receipt.message}", err=True)
    if failed or not receipts:
        raise typer.Exit(1)


def _row(receipt: DeliveryReceipt) -> dict[str, object]:
    return {
        "file": str(receipt.path),
        "sop_instance_uid": receipt.sop_instance_uid,
        "status": receipt.status,
        "delivered": receipt.is_delivered,
        "code": receipt.code,
        "message": receipt.message,
    }
