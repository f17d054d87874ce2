"""What the JSON API speaks: the bodies of its requests and answers, with examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

UID = "1.2.826.0.1.3680043.8.498.1"


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class Problem(BaseModel):
    """Why a request was refused: a code that stays, and a sentence for people."""

    model_config = _example(code="NOT_FOUND", message="There is no such study here.")

    code: str
    message: str


class Myself(BaseModel):
    """Whom the session or the token speaks for, and what it may do."""

    model_config = _example(login="rosa", role="radiologist", permissions=["read", "upload"])

    login: str
    role: str
    permissions: list[str]


class StudyRow(BaseModel):
    """A study as the worklist shows it. Times are seconds since 1970 UTC."""

    model_config = _example(
        study_instance_uid=UID, patient_name="Doe^Jane", patient_id="4711", study_date="20260105",
        study_description="Chest", received_at=1767600000.0, state="done", instances=2,
        modalities=["DX"], models=["cxr-pneumonia"], findings=["Pneumonia"],
    )  # fmt: skip

    study_instance_uid: str
    patient_name: str
    patient_id: str
    study_date: str
    study_description: str
    received_at: float
    state: str
    instances: int
    modalities: list[str]
    models: list[str]
    findings: list[str]
    """labels at or above their thresholds"""


class StudyPage(BaseModel):
    """Some studies, the last received first; ``next`` is the parameter ``after`` of the rest."""

    studies: list[StudyRow]
    next: str | None


class Report(BaseModel):
    """Everything that happened to a study, as ``pacsight studies show --json`` prints it."""

    model_config = ConfigDict(extra="allow")

    study_instance_uid: str
    accession_number: str
    modalities: list[str]
    instances: int
    last_received_at: float
    state: str
    held_because: dict[str, str | None] | None
    revision: int
    series: list[dict[str, Any]]
    quarantined: list[dict[str, Any]]
    """what came by the same associations and could not be read"""
    revisions: list[dict[str, Any]]
    """with the decisions, predictions, results and deliveries of each"""
    events: list[dict[str, Any]]


class ReviewIn(BaseModel):
    """What a radiologist says about a model's answer."""

    model_config = _example(decision=7, verdict="accepted", comment="")

    decision: int
    verdict: Literal["accepted", "rejected", "comment"]
    comment: Annotated[str, Field(max_length=4000)] = ""


class DeliverIn(BaseModel):
    """Where the newest results are to go."""

    model_config = _example(destination="pacs")

    destination: Annotated[str, Field(max_length=64)]


class Model(BaseModel):
    """An installed model."""

    model_config = _example(
        id="cxr-pneumonia", name="Pneumonia on chest radiographs", version="1.0.0",
        intended_use="Research", is_on=True,
    )  # fmt: skip

    id: str
    name: str
    version: str
    intended_use: str
    is_on: bool


class UploadId(BaseModel):
    """The name of an upload, which nobody can guess."""

    model_config = _example(id="0123456789abcdef0123456789abcdef")

    id: str


class TakenFile(BaseModel):
    """What a file is (dicom, picture, nifti or zip), or why it isn't taken."""

    model_config = _example(name="chest.png", kind="picture", code=None, message=None)

    name: str
    kind: str
    code: str | None
    message: str | None


class FinishIn(BaseModel):
    """What is to be done with the files of an upload; pictures become DICOM of that patient."""

    model_config = _example(model="cxr-pneumonia", patient_name="Doe, Jane", patient_id="4711")

    model: Annotated[str, Field(max_length=64)] = ""
    """the only one to ask; empty: all that fit"""
    patient_name: Annotated[str, Field(max_length=64)] = ""
    patient_id: Annotated[str, Field(max_length=64)] = ""
    patient_birth_date: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""
    patient_sex: Annotated[str, Field(pattern="^[MFO]?$")] = ""
    study_description: Annotated[str, Field(max_length=64)] = ""
    deliver: bool = False
    """whether results go to the destinations"""


class Finished(BaseModel):
    """The studies that an upload has made."""

    model_config = _example(studies=[UID])

    studies: list[str]
