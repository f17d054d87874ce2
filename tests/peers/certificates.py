"""A private certificate authority and the files that its certificates lie in."""

from __future__ import annotations

from pathlib import Path

import trustme


class Authority:
    """Signs certificates for 127.0.0.1 and writes them as PEM into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str = "127.0.0.1") -> tuple[Path, Path]:
        """Return certificate and key of `name`."""
        issued = self._authority.issue_cert(name)
        certificate, key = (self._folder / f"{name}.{kind}.pem" for kind in ("certificate", "key"))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return certificate, key
