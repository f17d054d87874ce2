"""What the web app needs of the world, passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlalchemy import Engine

from dicom_out.destination import Destination
from dicom_out.profile import Profile
from inference.registry import Registry
from ledger.recent import RecentAccesses
from ledger.store import Store
from scp.local_intake import LocalIntake
from viewer_api.config import WebConfig
from viewer_api.decoding import DecodingBudget
from viewer_api.sign_in import AddressLimit


class Shown(Protocol):
    """One kind of object that a self-test sent."""

    @property
    def kind(self) -> str:
        """sr, seg, sc, pdf or source."""

    @property
    def count(self) -> int:
        """How many."""

    @property
    def expected(self) -> str:
        """What a reader should see."""

    @property
    def is_delivered(self) -> bool:
        """Whether the destination has all of them."""

    @property
    def answer(self) -> str:
        """What the destination said."""


@dataclass(frozen=True, slots=True)
class WebContext:
    """Settings, the ledger, what is installed, and a clock (seconds since 1970 UTC)."""

    config: WebConfig
    database: Engine
    registry: Registry
    intake: LocalIntake
    data_dir: Path
    spool_dir: Path
    store: Store
    destinations: tuple[Destination, ...]
    profile_of: Callable[[Destination], Profile]
    """what a destination gets"""
    self_test: Callable[[Destination], Sequence[Shown]]
    """sends a drawn study with its results to a destination"""
    ae_title: str
    version: str
    clock: Callable[[], float]
    decoding: DecodingBudget
    sign_ins: AddressLimit = field(default_factory=AddressLimit)
    accesses: RecentAccesses = field(default_factory=RecentAccesses)

    @property
    def uploads_dir(self) -> Path:
        """Where files of unfinished uploads wait."""
        return self.data_dir / "uploads"


def web_context(request: Request) -> WebContext:
    """Return what :func:`viewer_api.app.create_app` was given."""
    context: WebContext = request.app.state.context
    return context


Web = Annotated[WebContext, Depends(web_context)]
