"""``pacsight users``: who may sign in to the web app."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from ledger.database import reading, transaction
from pacsight.commands.output import Json, print_json, print_table
from pacsight.settings import load_settings, open_ledger
from viewer_api.accounts import add_user, find_user, list_users, set_password

app = typer.Typer(help="People who may sign in to the web app.", no_args_is_help=True)

Login = Annotated[str, typer.Argument(help="What they type to sign in.")]


@app.command()
def add(
    login: Login,
    role: Annotated[str, typer.Option(help="staff, radiologist or administrator.")],
    name: Annotated[str, typer.Option(help="Full name.")] = "",
) -> None:
    """Add a user; the password is asked for, or read from standard input."""
    database = open_ledger(load_settings())
    password = _ask()
    with transaction(database) as session:
        user = add_user(
            session,
            login=login,
            name=name,
            role=role,
            password=password,
            actor="operator",
            now=time.time(),
        )
    typer.echo(f"{user.login} may sign in as {user.role}.")


@app.command("list")
def list_(json: Json = False) -> None:
    """List users."""
    database = open_ledger(load_settings())
    with reading(database) as session:
        rows = list_users(session)
    if json:
        print_json(rows)
        return
    columns = ("login", "name", "role", "active", "signs_in_with")
    print_table("Users", columns, [[row[name] for name in columns] for row in rows])


@app.command()
def password(login: Login) -> None:
    """Set a user's password and end the user's sessions and API tokens."""
    database = open_ledger(load_settings())
    new = _ask()
    with transaction(database) as session:
        set_password(session, find_user(session, login), new, actor="operator", now=time.time())
    typer.echo("The password is changed; open sessions and API tokens have ended.")


def _ask() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
