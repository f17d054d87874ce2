"""What every process of Pacsight logs, and where: standard error."""

from __future__ import annotations

import logging
import sys

PACKAGES = ("pacsight", "scp", "inference", "dicom_out", "ledger", "training", "viewer_api")


def start_logging(*, verbose: bool) -> None:
    """Log warnings of all packages, and what is done (`verbose`) of ours."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Its errors come back as our coded receipts and events; alone they only alarm.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # it warns with values: PHI
    if verbose:
        for package in PACKAGES:
            logging.getLogger(package).setLevel(logging.INFO)
