"""Settings of the web app: frozen, validated once, passed in."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ledger.secret import Secret

Role = Literal["staff", "radiologist", "administrator"]


def _check_origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write an address such as https://pacsight.example.org")
    return value.rstrip("/")


Origin = Annotated[str, AfterValidator(_check_origin)]


class Section(BaseModel):
    """Base of these settings: unknown keys are errors, values don't change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OidcConfig(Section):
    """Sign-in at the hospital's own identity provider (OpenID Connect)."""

    issuer: Origin
    """where ``/.well-known/openid-configuration`` lies below"""
    client_id: str = Field(min_length=1)
    client_secret: Secret
    name: str = "Single sign-on"
    """what the button says"""
    scopes: str = "openid profile email"
    login_claim: str = "preferred_username"
    role_claim: str = "groups"
    """a text or a list of texts in the ID token"""
    roles: dict[str, Role] = Field(default_factory=dict)
    """which value of the claim gives which role; without one nobody gets in"""


class WebConfig(Section):
    """Where the web app listens, whom it lets in, and how much it takes."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0: any free port"""
    public_url: Origin | None = None
    """as browsers see it; https makes cookies Secure and sends HSTS"""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1",)
    """addresses whose X-Forwarded-For is believed"""
    session_lifetime_s: Annotated[float, Field(gt=0)] = 12 * 3600.0
    session_idle_s: Annotated[float, Field(gt=0)] = 3600.0
    """a session that does nothing for so long has ended"""
    login_attempts: Annotated[int, Field(ge=1)] = 5
    """wrong passwords in a row before a login is locked"""
    lock_s: Annotated[float, Field(gt=0)] = 60.0
    """first lock; it doubles with each further wrong password, up to an hour"""
    max_file_bytes: Annotated[int, Field(ge=1)] = 1 << 30
    max_upload_bytes: Annotated[int, Field(ge=1)] = 4 << 30
    """all files of one upload, and what a zip may unpack to"""
    max_files: Annotated[int, Field(ge=1)] = 5000
    """in one upload, files in a zip included"""
    decoding_memory_bytes: Annotated[int, Field(ge=1 << 24)] = 1 << 30
    """for images that are decoded at the same time; whoever finds none left is told to try again"""
    ohif_url: Origin | None = None
    """an OHIF viewer that shows what the PACS holds; links lead there"""
    dicomweb_origins: tuple[Origin, ...] = ()
    """other sites whose viewers may ask DICOMweb, with an API token; nobody by default"""
    oidc: OidcConfig | None = None

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach us through TLS."""
        return self.public_url is not None and self.public_url.startswith("https://")
