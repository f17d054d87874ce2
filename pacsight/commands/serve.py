"""``pacsight serve``, ``scp``, ``worker`` and ``web``: the processes."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Annotated

import typer
from rich.console import Console

from pacsight.receiver_process import become_receiver
from pacsight.settings import CONFIG_VARIABLE, Settings, load_settings
from pacsight.supervisor import Role, stop_on_signals, supervise

Supervised = Annotated[
    bool, typer.Option(hidden=True, help="Stop when standard input ends: set by pacsight serve.")
]


def serve() -> None:
    """Run receiver, worker and web app on this machine, restarted when they fail.

    A role that ends by itself at each of its first starts ends all, with a sentence.
    """
    settings = load_settings()
    stop = stop_on_signals()
    roles = [_role("scp"), _role("worker"), _role("web")]
    _banner(settings)
    supervise(roles, stop)


def _role(name: str) -> Role:
    config = os.environ.get(CONFIG_VARIABLE)
    shared = ["--config", config] if config else []
    if _is_verbose():
        shared.append("--verbose")
    return Role(name, [sys.executable, "-m", "pacsight", *shared, name, "--supervised"])


def _is_verbose() -> bool:
    return logging.getLogger("pacsight").isEnabledFor(logging.INFO)


def _banner(settings: Settings) -> None:
    console = Console(stderr=True)
    console.print(
        f"Pacsight receives as [bold]{settings.scp.ae_title}[/] on "
        f"{settings.scp.host}:{settings.scp.port}; data in {settings.data_dir}."
    )
    address = settings.web.public_url or f"http://{settings.web.host}:{settings.web.port}"
    console.print(f"The web app is at {address}; 'pacsight users add' makes its first user.")
    for destination in settings.destinations:
        console.print(
            f"Results go to {destination.name}: "
            f"{destination.ae_title}@{destination.host}:{destination.port}."
        )
    if not settings.destinations:
        console.print("No destination is configured: results stay in the data folder.")
    console.print("For research use only. Stop with Ctrl-C.")


def scp(
    name: Annotated[
        str | None,
        typer.Option(help="Of this receiver in the ledger, no two the same; default: host."),
    ] = None,
    supervised: Supervised = False,
) -> None:
    """Run a receiver only (several machines)."""
    become_receiver(name, verbose=_is_verbose(), supervised=supervised)


def worker(
    queues: Annotated[
        str, typer.Option(help="Comma-separated: intake, cpu, predict, deliver.")
    ] = "intake,cpu,predict,deliver",
    name: Annotated[
        str | None,
        typer.Option(help="A restarted worker of the same name resumes its work; default: host."),
    ] = None,
    supervised: Supervised = False,
) -> None:
    """Run a worker only (several machines)."""
    from pacsight.worker import QUEUES, run_worker

    chosen = [queue.strip() for queue in queues.split(",") if queue.strip()]
    unknown = sorted(set(chosen) - set(QUEUES))
    if unknown or not chosen:
        raise typer.BadParameter(
            f"unknown queue {', '.join(unknown) or '(none given)'}; known: {', '.join(QUEUES)}"
        )
    stop = stop_on_signals(supervised=supervised)
    run_worker(load_settings(), stop, name=name or socket.gethostname(), queues=chosen)


def web(supervised: Supervised = False) -> None:
    """Run the web app only (several machines)."""
    from pacsight.web import run_web

    run_web(load_settings(), stop_on_signals(supervised=supervised))
