"""Acknowledged objects without a listener: slices of a spool segment and their ledger rows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)
from sqlalchemy import Engine, select

from ledger.database import reading, transaction
from ledger.domain import ObjectState
from ledger.tables import Association, ReceivedObject
from scp.part10 import encode_file_meta

SEGMENT = "abc-1.seg"


def radiograph(**attributes: Any) -> Dataset:
    """Return a small, valid DX-like data set."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.PatientName = "Müller^Änne"
    ds.PatientID = "4711"
    ds.PatientBirthDate = "19500101"
    ds.PatientSex = "F"
    ds.AccessionNumber = "A1"
    ds.StudyDate = "20260102"
    ds.StudyTime = "0304"
    ds.Modality = "DX"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    ds.SeriesNumber = 2
    ds.InstanceNumber = 3
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.PixelData = bytes(range(64))
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def data_set_bytes(ds: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """Return the data set part, as a C-STORE carries it."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "1.2")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID") or "1.2"
    file = io.BytesIO()
    dcmwrite(file, ds, enforce_file_format=True)
    data = file.getvalue()
    return data[144 + int.from_bytes(data[140:144], "little") :]


class Received:
    """A spool with one segment, and associations that brought its objects."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.spool = folder / "spool"
        self.spool.mkdir(exist_ok=True)

    def association(
        self, *, closed_at: float | None = 0.0, outcome: str | None = "released"
    ) -> int:
        with transaction(self.engine) as session:
            row = Association(
                listener="here",
                calling_ae_title="MODALITY",
                called_ae_title="PACSIGHT",
                peer_address="127.0.0.1",
                opened_at=0.0,
                closed_at=closed_at,
                outcome=outcome if closed_at is not None else None,
            )
            session.add(row)
            session.flush()
            return row.id

    def close(self, association: int, at: float, outcome: str = "released") -> None:
        with transaction(self.engine) as session:
            row = session.get_one(Association, association)
            row.closed_at, row.outcome = at, outcome

    def add(
        self,
        content: Dataset | bytes,
        *,
        at: float = 0.0,
        association: int | None = None,
        sender: str = "MODALITY",
        transfer_syntax_uid: str = ExplicitVRLittleEndian,
        sop_instance_uid: str | None = None,
        raw: bool = False,
    ) -> int:
        """Append an object to the segment; `raw` bytes get no file meta in front."""
        data = (
            content if isinstance(content, bytes) else data_set_bytes(content, transfer_syntax_uid)
        )
        uid = sop_instance_uid or (
            content.get("SOPInstanceUID", "1.2.3") if isinstance(content, Dataset) else "1.2.3"
        )
        if not raw:
            data = encode_file_meta("1.2.840", uid, transfer_syntax_uid, sender) + data
        with (self.spool / SEGMENT).open("ab") as file:
            offset = file.tell()
            file.write(data)
        association = association or self.association()
        with transaction(self.engine) as session:
            row = ReceivedObject(
                association_id=association,
                sop_class_uid="1.2.840",
                sop_instance_uid=str(uid),
                transfer_syntax_uid=str(transfer_syntax_uid),
                segment=SEGMENT,
                offset=offset,
                size=len(data),
                received_at=at,
                state=ObjectState.RECEIVED.value,
            )
            session.add(row)
            session.flush()
            return row.id

    def row(self, object_id: int) -> ReceivedObject:
        with reading(self.engine) as session:
            return session.get_one(ReceivedObject, object_id)

    def all(self, table: Any) -> list[Any]:
        with reading(self.engine) as session:
            return list(session.scalars(select(table).order_by(table.id)))
