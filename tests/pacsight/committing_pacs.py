"""A PACS that offers storage commitment and misbehaves as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from scp.commitment import INSTANCE, references
from tests.peers.process import free_port

FIND = StudyRootQueryRetrieveInformationModelFind


@dataclass
class CommittingPacs:
    """What it was asked, and how it answers."""

    port: int = field(default_factory=free_port)
    action_status: int = 0x0000
    fails: dict[str, int] = field(default_factory=dict)
    """Failure Reason by SOP Instance UID"""
    report_to: int | None = None
    """port of the listener; None: on the same association"""
    is_silent: bool = False
    asked: list[list[str]] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)
    report_statuses: list[int | None] = field(default_factory=list)
    on_store: Callable[[Any], int] = lambda _event: 0x0000

    def store(self, event: Any) -> int:
        status = self.on_store(event)
        if status == 0:
            self.stored.append(str(event.request.AffectedSOPInstanceUID))
            self.listed.add(self.stored[-1])
        return status

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.QueryRetrieveLevel != "IMAGE":
            return
        for uid in sorted(self.listed):
            match = Dataset()
            match.StudyInstanceUID = event.identifier.StudyInstanceUID
            match.SOPInstanceUID = uid
            yield 0xFF00, match

    def act(self, event: Any) -> tuple[int, None]:
        asked = references(event.action_information, "ReferencedSOPSequence")
        self.asked.append([uid for _, uid in asked])
        if self.action_status == 0 and not self.is_silent:
            uid = event.action_information.TransactionUID
            work = threading.Thread(target=self._report, args=(event.assoc, uid, asked))
            work.start()
        return self.action_status, None

    def report(self, uid: str, asked: Sequence[tuple[str, str]]) -> tuple[int, Dataset]:
        ds, failed = Dataset(), []
        ds.TransactionUID, ds.ReferencedSOPSequence = uid, []
        for sop_class, instance in asked:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
            if instance in self.fails:
                item.FailureReason = self.fails[instance]
                failed.append(item)
            else:
                ds.ReferencedSOPSequence.append(item)
        if failed:
            ds.FailedSOPSequence = failed
        return (2 if failed else 1), ds

    def _report(self, association: Any, uid: str, asked: Sequence[tuple[str, str]]) -> None:
        kind, ds = self.report(uid, asked)
        if self.report_to is None:
            answer, _ = association.send_n_event_report(
                ds, kind, StorageCommitmentPushModel, INSTANCE
            )
        else:
            ae = AE("ORTHANC")
            ours = ae.associate(
                "127.0.0.1",
                self.report_to,
                [build_context(StorageCommitmentPushModel)],
                ae_title="PACSIGHT",
                ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
            )
            answer, _ = ours.send_n_event_report(ds, kind, StorageCommitmentPushModel, INSTANCE)
            ours.release()
        self.report_statuses.append(answer.get("Status"))

    @contextmanager
    def running(self, *, offers: Sequence[str] = (StorageCommitmentPushModel, FIND)) -> Any:
        ae = AE("ORTHANC")
        for sop_class in (ComprehensiveSRStorage, *offers):
            ae.add_supported_context(sop_class)
        server = ae.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_C_STORE, self.store),
                (evt.EVT_C_FIND, self.find),
                (evt.EVT_N_ACTION, self.act),
            ],
        )
        try:
            yield self
        finally:
            server.shutdown()
