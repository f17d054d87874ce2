"""Storage commitment (PS3.4 Annex J) on associations of ours: asking for it, and answering."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pydicom import Dataset
from pynetdicom import build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_out.association import close_association, open_association
from dicom_out.destination import CUT_OFF, Destination, Outcome, Verdict
from scp.commitment import INSTANCE, REQUEST, SUCCESS, Reference, request_dataset

LOOK_S = 0.2

ASKED = Verdict(Outcome.ACCEPTED, "COMMITMENT_ASKED", "The destination will report.")
REPORTED = Verdict(Outcome.ACCEPTED, "COMMITMENT_REPORTED", "The peer has the answer.")
NO_COMMITMENT = Verdict(
    Outcome.REFUSED,
    "COMMITMENT_NOT_OFFERED",
    "The destination offers no storage commitment; choose another proof for it.",
)


def ask_commitment(
    transaction_uid: str,
    instances: Sequence[Reference],
    destination: Destination,
    *,
    calling_ae_title: str,
    on_report: Callable[[evt.Event], int],
    is_answered: Callable[[], bool],
    patience_s: float,
) -> Verdict:
    """Ask a destination to commit to instances; never raises for what it or the network does.

    Its report may come on this association or on one of its own to the listener.

    Parameters
    ----------
    on_report
        Takes an N-EVENT-REPORT on this association and returns the status for it.
    is_answered
        Whether the report has come, on whichever way: then nothing more is waited for.
    patience_s
        How long the association stays open for a report, in seconds.
    """
    association = open_association(
        [(StorageCommitmentPushModel, None)],
        destination,
        calling_ae_title,
        handlers=[(evt.EVT_N_EVENT_REPORT, lambda event: (on_report(event), None))],
    )
    if isinstance(association, Verdict):
        return NO_COMMITMENT if association.code == "CONTEXT_NOT_ACCEPTED" else association
    try:
        response, _ = association.send_n_action(
            request_dataset(transaction_uid, instances),
            REQUEST,
            StorageCommitmentPushModel,
            INSTANCE,
        )
        status = response.get("Status")
        if status is None:
            return CUT_OFF
        if status != SUCCESS:
            return _refused(status)
        deadline = time.monotonic() + patience_s
        while association.is_established and time.monotonic() < deadline and not is_answered():
            time.sleep(LOOK_S)
    except (RuntimeError, ValueError):  # aborted meanwhile
        return CUT_OFF
    finally:
        close_association(association)
    return ASKED


def report_commitment(
    event_type: int, report: Dataset, peer: Destination, *, calling_ae_title: str
) -> Verdict:
    """Tell a peer what we hold of what it asked about, on an association of our own.

    As requestor we are SCP, which is negotiated (PS3.4 section J.3.3.1, PS3.7 section D.3.3.4).
    """
    association = open_association(
        [(StorageCommitmentPushModel, None)],
        peer,
        calling_ae_title,
        roles=[build_role(StorageCommitmentPushModel, scp_role=True)],
    )
    if isinstance(association, Verdict):
        return association
    try:
        response, _ = association.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, INSTANCE
        )
    except (RuntimeError, ValueError):  # aborted meanwhile
        return CUT_OFF
    finally:
        close_association(association)
    status = response.get("Status")
    if status is None:
        return CUT_OFF
    return REPORTED if status == SUCCESS else _refused(status)


def _refused(status: int) -> Verdict:
    text = f"The peer refused it with status 0x{status:04X}; does it know our AE title and port?"
    return Verdict(Outcome.REFUSED, "COMMITMENT_REFUSED", text)
