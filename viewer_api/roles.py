"""Who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from viewer_api.config import Role


class Permission(StrEnum):
    """What a person may do, and the scopes of API tokens."""

    READ = "read"
    """see studies, results and models"""
    UPLOAD = "upload"
    """hand in files"""
    DELIVER = "deliver"
    """send results to the PACS"""
    REVIEW = "review"
    """accept, reject and comment results"""
    OPERATE = "operate"
    """events, deliveries, destinations, models, users"""


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "staff": frozenset({Permission.READ, Permission.UPLOAD}),
    "radiologist": frozenset(
        {Permission.READ, Permission.UPLOAD, Permission.DELIVER, Permission.REVIEW}
    ),
    "administrator": frozenset(
        {Permission.READ, Permission.UPLOAD, Permission.DELIVER, Permission.OPERATE}
    ),
}
"""An administrator runs the service and reviews nothing: that is medicine."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a signed-in person, or a program with that person's token."""

    user_id: int
    login: str
    name: str
    role: Role
    permissions: frozenset[Permission]
    session_id: str | None = None
    """digest of the cookie; None for tokens"""
    csrf_token: str | None = None

    def may(self, permission: str) -> bool:
        """Tell whether this is allowed."""
        return permission in self.permissions
