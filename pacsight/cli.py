"""The program ``pacsight``. Exit status: 0 done, 1 a refusal or failure, 2 wrong usage."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.errors import PacsightError
from pacsight import __version__
from pacsight.commands import (
    analyze,
    deliveries,
    demo,
    doctor,
    models,
    route,
    selftest,
    send,
    serve,
    studies,
    train,
    users,
)
from pacsight.errors import SettingsError
from pacsight.settings import CONFIG_VARIABLE

app = typer.Typer(
    name="pacsight",
    help="Clinical imaging AI inside the hospital's DICOM world. For research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pacsight {__version__}")
        raise typer.Exit


@app.callback()
def options(
    config: Annotated[
        Path | None, typer.Option(help="Settings file; default pacsight.yaml if it exists.")
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Log what is done, to standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Take the options that every command shares."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Its errors come back as our coded receipts and events; alone they only alarm.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # it warns with values: PHI
    if verbose:
        for package in (
            "pacsight",
            "scp",
            "inference",
            "dicom_out",
            "ledger",
            "training",
            "viewer_api",
        ):
            logging.getLogger(package).setLevel(logging.INFO)


app.command()(serve.serve)
app.command()(serve.scp)
app.command()(serve.worker)
app.command()(serve.web)
app.command()(demo.demo)
app.command()(analyze.analyze)
app.command()(route.route)
app.command()(send.send)
app.command()(doctor.doctor)
app.command()(selftest.selftest)
app.command()(train.train)
app.add_typer(models.app, name="models")
app.add_typer(studies.app, name="studies")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(users.app, name="users")


def main() -> None:
    """Run the program; a reported error is one line: its code and its sentence."""
    try:
        app()
    except PacsightError as error:
        typer.echo(f"{error.code}: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


if __name__ == "__main__":
    main()
