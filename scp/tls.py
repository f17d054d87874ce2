"""TLS for DICOM connections in both roles: what is set, and the contexts made of it.

The BCP 195 RFC 8996 TLS Secure Transport Connection Profile (PS3.15 section B.12): TLS 1.2 or
1.3, forward secrecy and authenticated encryption only, and both sides show a certificate.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from scp.errors import TlsError

CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
    for key in ("ECDSA", "RSA")
)
"""For TLS 1.2, those that RFC 9325 section 4.2 recommends; TLS 1.3 has no others than such."""


class ServerTls(BaseModel):
    """The listener's TLS: its connections are then TLS only, and senders need a certificate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: Path
    """PEM; ours, with the chain to its authority"""
    key: Path
    """PEM, not encrypted; readable by Pacsight only"""
    authorities: Path
    """PEM; whose certificates senders may show"""

    def context(self) -> ssl.SSLContext:
        """Return a context that demands a certificate of these authorities.

        Raises
        ------
        TlsError
            A file is missing, damaged or doesn't fit the others.
        """
        context = _context(ssl.PROTOCOL_TLS_SERVER, self.authorities)
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET  # each association shows its certificate anew
        context.num_tickets = 0
        _load_own(context, self.certificate, self.key)
        return context


class ClientTls(BaseModel):
    """TLS to a peer that we call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    authorities: Path
    """PEM; one of these must have signed the peer's certificate"""
    certificate: Path | None = None
    """PEM; what we show when the peer asks for a certificate"""
    key: Path | None = None
    """PEM, not encrypted; readable by Pacsight only"""
    name: str | None = None
    """what the peer's certificate must be made out to; default: its host"""
    checks_name: bool = True
    """off for devices whose certificate names no host; the authorities still count"""

    @model_validator(mode="after")
    def _key_and_certificate_come_together(self) -> ClientTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; set both or neither")
        return self

    def context(self) -> ssl.SSLContext:
        """Return a context that checks the peer's certificate.

        Raises
        ------
        TlsError
            A file is missing, damaged or doesn't fit the others.
        """
        context = _context(ssl.PROTOCOL_TLS_CLIENT, self.authorities)
        context.check_hostname = self.checks_name
        if self.certificate is not None and self.key is not None:
            _load_own(context, self.certificate, self.key)
        return context


def _context(protocol: int, authorities: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION  # RFC 9325 section 3
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    try:
        context.load_verify_locations(authorities)
    except OSError as error:  # ssl.SSLError too
        raise TlsError(
            f"{authorities} can't be used as certificates of authorities: {_why(error)}."
        ) from error
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # without a password function, OpenSSL would ask the terminal for that of a key
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except OSError as error:
        raise TlsError(
            f"{certificate} and {key} can't be used as certificate and key: {_why(error)}."
            " Both are PEM, fit each other, and the key is not encrypted."
        ) from error


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "damaged").lower().replace("_", " ")
    return error.strerror or type(error).__name__
