"""Destinations as people name them on the command line."""

from __future__ import annotations

import difflib
import re

import typer

from dicom_out.destination import Destination
from pacsight.errors import NotFoundError
from pacsight.settings import Settings

ADDRESS = re.compile(r"(?P<ae_title>[^@]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})")


def find_destination(settings: Settings, name: str) -> Destination:
    """Return the destination of that name.

    Raises
    ------
    NotFoundError
        There is none; the message has the nearest name.
    """
    named = {destination.name: destination for destination in settings.destinations}
    if name in named:
        return named[name]
    close = difflib.get_close_matches(name, named, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "add it to the settings."
    raise NotFoundError(f"There is no destination '{name}'; {hint}")


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
