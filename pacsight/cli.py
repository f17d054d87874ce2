"""The program ``pacsight``.

Exit status: 0 done, 1 a refusal or failure, 2 wrong usage, 75 a failure that may pass by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pacsight import __version__
from pacsight.commands import (
    analyze,
    audit,
    deliveries,
    demo,
    doctor,
    models,
    retention,
    route,
    selftest,
    send,
    serve,
    studies,
    train,
    users,
)
from pacsight.logs import start_logging
from pacsight.reporting import reported
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
    start_logging(verbose=verbose)


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
app.command()(retention.retention)
app.command()(train.train)
app.add_typer(models.app, name="models")
app.add_typer(studies.app, name="studies")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(users.app, name="users")
app.add_typer(audit.app, name="audit")


def main() -> None:
    """Run the program."""
    with reported():
        app()


if __name__ == "__main__":
    main()
