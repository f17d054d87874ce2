"""OpenID Connect, authorization code flow with PKCE (RFC 6749, RFC 7636, OpenID Connect Core 1.0).

Authlib speaks to the provider; joserfc checks the ID token's signature and claims.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.web_tables import UserAccount
from viewer_api.accounts import ROLES, add_user, change_user
from viewer_api.config import OidcConfig, Role
from viewer_api.errors import InputError, OidcError, OidcRoleError

TIMEOUT_S = 10.0
LEEWAY_S = 60
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Signatures only; ``none`` and shared secrets are not among them."""
_FAILED = "The identity provider did not confirm who you are; try again or tell an administrator."


@dataclass(frozen=True, slots=True)
class Attempt:
    """Secrets of one sign-in, kept in the browser between leaving and coming back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        """Return fresh ones."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))

    @classmethod
    def parse(cls, text: str) -> Attempt:
        """Read what :attr:`text` wrote.

        Raises
        ------
        OidcError
            It was not written by us.
        """
        parts = text.split(".")
        if len(parts) != 3 or not all(parts):
            raise OidcError("This sign-in was begun too long ago or elsewhere; try again.")
        return cls(*parts)

    @property
    def text(self) -> str:
        """All three, for a cookie."""
        return f"{self.state}.{self.nonce}.{self.verifier}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is at the provider, and the role that this gives here."""

    subject: str
    login: str
    name: str
    role: Role


def sign_in_address(config: OidcConfig, callback: str, attempt: Attempt) -> str:
    """Return the provider's page to send the browser to.

    Raises
    ------
    OidcError
        The provider can't be reached.
    """
    with _client(config, callback) as client:
        metadata = _metadata(config)
        address, _ = client.create_authorization_url(
            metadata["authorization_endpoint"],
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.verifier,
        )
    return str(address)


def identify(config: OidcConfig, callback: str, attempt: Attempt, answer: str) -> Identity:
    """Trade the code in the provider's answer for an ID token, and return whose it is.

    Parameters
    ----------
    answer
        The address to which the browser came back, query included.

    Raises
    ------
    OidcError
        The answer or the token is not what it must be; or the person has no role here.
    """
    try:
        with _client(config, callback) as client:
            metadata = _metadata(config)
            token = client.fetch_token(
                metadata["token_endpoint"],
                authorization_response=answer,
                state=attempt.state,
                code_verifier=attempt.verifier,
            )
            keys = _fetch(metadata["jwks_uri"])
        claims = _claims(config, token["id_token"], keys, attempt.nonce)
    except (AuthlibBaseError, JoseError, httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise OidcError(_FAILED) from error
    return _identity(config, claims)


def _client(config: OidcConfig, callback: str) -> OAuth2Client:
    return OAuth2Client(
        config.client_id,
        config.client_secret.get_secret_value(),
        scope=config.scopes,
        redirect_uri=callback,
        code_challenge_method="S256",
        timeout=TIMEOUT_S,
    )


def _fetch(address: str) -> dict[str, Any]:
    content: dict[str, Any] = httpx.get(address, timeout=TIMEOUT_S).raise_for_status().json()
    return content


def _metadata(config: OidcConfig) -> dict[str, Any]:
    address = f"{config.issuer}/.well-known/openid-configuration"
    try:
        metadata = _fetch(address)
    except (httpx.HTTPError, ValueError) as error:
        raise OidcError("The identity provider can't be reached; try again later.") from error
    if str(metadata.get("issuer", "")).rstrip("/") != config.issuer:
        raise OidcError("The identity provider calls itself by another name than web.oidc.issuer.")
    return metadata


def _claims(config: OidcConfig, token: str, keys: dict[str, Any], nonce: str) -> dict[str, Any]:
    """Check signature and claims (OpenID Connect Core 1.0, section 3.1.3.7)."""
    decoded = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]  # a dict as the provider gave it
    registry = jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S,
        exp={"essential": True},
        aud={"essential": True, "value": config.client_id},
        nonce={"essential": True, "value": nonce},
        sub={"essential": True},
    )
    registry.validate(decoded.claims)
    if str(decoded.claims.get("iss", "")).rstrip("/") != config.issuer:
        raise OidcError(_FAILED)
    audience, party = decoded.claims["aud"], decoded.claims.get("azp")
    is_shared = isinstance(audience, list) and len(audience) > 1
    if party != config.client_id and (party is not None or is_shared):
        raise OidcError(_FAILED)  # made for another program, which passed it on
    return dict(decoded.claims)


def _identity(config: OidcConfig, claims: dict[str, Any]) -> Identity:
    given = claims.get(config.role_claim)
    values = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    roles = {config.roles[value] for value in values if value in config.roles}
    if not roles:
        raise OidcRoleError("You are known, but have no role here; ask an administrator for one.")
    role = max(roles, key=ROLES.index)
    login = str(claims.get(config.login_claim) or claims["sub"])
    return Identity(
        subject=f"{config.issuer} {claims['sub']}"[:320],
        login=login,
        name=str(claims.get("name") or login),
        role=role,
    )


def account_of(session: Session, identity: Identity, now: float) -> UserAccount:
    """Return the account of a person, made at the first sign-in; the provider decides the role.

    Raises
    ------
    InputError
        The login can't be used, or belongs to somebody who signs in with a password.
    OidcRoleError
        An administrator has barred the account.
    """
    user = session.scalar(select(UserAccount).where(UserAccount.oidc_subject == identity.subject))
    if user is None:
        return add_user(
            session,
            login=identity.login,
            name=identity.name,
            role=identity.role,
            password=None,
            actor="oidc",
            now=now,
            oidc_subject=identity.subject,
        )
    if not user.is_active:
        raise OidcRoleError("Your account is barred here; ask an administrator.")
    with suppress(InputError):  # the last administrator keeps the role
        change_user(session, user, role=identity.role, is_active=True, actor="oidc", now=now)
    return user
