"""``pacsight send``: a C-STORE SCU for files and folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from dicom_out.destination import DeliveryReceipt, Destination
from pacsight.commands.output import Json, print_json
from pacsight.settings import load_settings

ADDRESS = re.compile(r"(?P<ae_title>[^@]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})")


def parse_address(text: str) -> Destination:
    """Return the destination written as ``AET@HOST:PORT``.

    Raises
    ------
    typer.BadParameter
        It is written otherwise.
    """
    match = ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise typer.BadParameter(f"'{text}' is no address; write AET@HOST:PORT.")
    return Destination(
        name="command-line",
        ae_title=match["ae_title"],
        host=match["host"].strip("[]"),
        port=int(match["port"]),
    )


def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files and folders.", exists=True)],
    to: Annotated[str, typer.Option(help="AET@HOST:PORT of the receiver.")],
    json: Json = False,
) -> None:
    """Send DICOM files to a PACS (C-STORE)."""
    from dicom_out.delivery import send as send_files

    destination = parse_address(to)
    with Progress(transient=True, disable=json) as progress:
        task = progress.add_task("Sending", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        receipts = send_files(
            paths,
            destination,
            calling_ae_title=load_settings().scp.ae_title,
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
