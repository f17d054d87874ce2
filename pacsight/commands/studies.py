"""``pacsight studies``: what came in, what was done, what was refused, why; and do it again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from ledger.database import reading, transaction
from ledger.domain import KeySlice
from ledger.queries import (
    find_study,
    list_patients,
    list_quarantined,
    list_studies,
    study_report,
)
from pacsight.commands.output import Json, print_json, print_table
from pacsight.errors import NotFoundError
from pacsight.settings import load_settings, open_ledger
from scp.patient_guard import release_study
from scp.revisions import replay_study

app = typer.Typer(help="Received studies and what became of them.", no_args_is_help=True)

StudyUid = Annotated[str, typer.Argument(help="Study Instance UID.", metavar="UID")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    quarantined: Annotated[
        bool, typer.Option(help="The received objects that can't be read, with the reason.")
    ] = False,
    json: Json = False,
) -> None:
    """List studies, newest first."""
    database = open_ledger(load_settings())
    with reading(database) as session:
        rows = list_quarantined(session, limit) if quarantined else list_studies(session, limit)
    if json:
        print_json(rows)
    elif quarantined:
        _print_list("Quarantine", ("id", "code", "reason", "sop_instance_uid"), rows)
    else:
        columns = ("study_instance_uid", "modalities", "instances", "state", "revision")
        _print_list("Studies", columns, rows)


@app.command()
def show(
    uid: StudyUid,
    patients: Annotated[
        bool, typer.Option(help="Whose its headers say it is: patient data.")
    ] = False,
    json: Json = False,
) -> None:
    """Show one study: why complete, which models applied or refused, findings, deliveries."""
    database = open_ledger(load_settings())
    with reading(database) as session:
        study = find_study(session, uid)
        if study is None:
            raise NotFoundError(f"Study {uid} was never received; see 'pacsight studies list'.")
        report = study_report(session, study)
        if patients:
            report["patients"] = list_patients(session, study)
    if json:
        print_json(report)
    else:
        _print(report)


@app.command()
def replay(uid: StudyUid) -> None:
    """Analyse a study again with the models installed now, as a new revision."""
    settings = load_settings()
    with transaction(open_ledger(settings)) as session:
        study = find_study(session, uid)
        number = (
            None
            if study is None
            else replay_study(session, study, now=time.time(), stat_rules=settings.stat)
        )
    if number is None:
        raise NotFoundError(f"Study {uid} holds nothing to analyse; see 'pacsight studies list'.")
    typer.echo(f"Study {uid} will be analysed again as revision {number}.")


@app.command()
def release(
    uid: StudyUid,
    as_: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="PATIENT",
            help="Whose it is: a Patient ID of its headers, or '#' and a number of "
            "'studies show --patients'. The results carry that patient.",
        ),
    ],
    drop_others: Annotated[
        bool, typer.Option("--drop-others", help="Leave out the objects of other patients.")
    ] = False,
) -> None:
    """Let a study go on that is held because its objects name different patients."""
    settings = load_settings()
    with transaction(open_ledger(settings)) as session:
        study = find_study(session, uid)
        if study is None:
            raise NotFoundError(f"Study {uid} was never received; see 'pacsight studies list'.")
        number = release_study(
            session,
            study,
            patient_id=as_,
            drops_others=drop_others,
            now=time.time(),
            stat_rules=settings.stat,
        )
    typer.echo(f"Study {uid} is released and will be analysed as revision {number}.")


def _print_list(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    print_table(title, columns, [[_cell(row[name]) for name in columns] for row in rows])


def _cell(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _print(report: dict[str, Any]) -> None:
    typer.echo(f"Study     {report['study_instance_uid']}")
    typer.echo(f"Accession {report['accession_number'] or '-'}")
    typer.echo(f"State     {report['state']}")
    if held := report["held_because"]:
        typer.echo(f"Held      {held['code']}: {held['reason']}")
    for one in report.get("patients", []):
        typer.echo(
            f"Patient   #{one['number']} {one['patient_id']} {one['patient_name']}"
            f" {one['patient_birth_date']} ({one['instances']} instances)"
        )
    for series in report["series"]:
        typer.echo(
            f"Series    {series['modality']} {series['series_description']}"
            f" ({series['instances']} instances)"
        )
    for one in report["quarantined"]:
        typer.echo(f"Unread    {one['sop_instance_uid']} {one['code']}: {one['reason']}")
    for revision in report["revisions"]:
        because = revision["complete_because"]
        marks = " (STAT)" if revision["is_stat"] else ""
        if revision["superseded_by"]:
            marks += f" (superseded by revision {revision['superseded_by']})"
        sure = f" [{because['confidence']}]" if because["confidence"] else ""
        typer.echo(
            f"\nRevision {revision['number']}{marks}: {because['code']}: {because['reason']}{sure}"
        )
        rows = [row for decision in revision["decisions"] for row in decision_rows(decision)]
        rows += [
            [item["job"], "failed", f"{item['code']}: {item['message']}", ""]
            for item in revision["failures"]
        ]
        print_table("", ("model", "answer", "finding or reason", "results"), rows)
    for event in report["events"]:
        at = datetime.fromtimestamp(event["at"]).astimezone().isoformat(timespec="seconds")
        typer.echo(f"{at}  {event['actor']}: {event['action']} {event['detail']}")


def decision_rows(decision: dict[str, Any]) -> list[list[str]]:
    """Return table rows (model, answer, finding or reason, results) of one routing decision."""
    model = f"{decision['model']} {decision['version']}"
    if decision["refused"]:
        refusal = decision["refused"]
        return [[model, "not applied", f"{refusal['code']}: {refusal['message']}", ""]]
    results = ", ".join(
        f"{item['kind'].upper()} {delivery['state']} at {delivery['destination']}"
        for item in decision["results"]
        for delivery in item["deliveries"]
    )
    rows = [
        [model, "applied", text, results]
        for prediction in decision["predictions"]
        for text in prediction_texts(prediction)
    ]
    return [[model, "applied", decision["applies_because"] or "", ""], *rows]


def prediction_texts(prediction: dict[str, Any]) -> list[str]:
    """Return everything that a model said about an image or a series in words."""
    boxes = [f"{box['label']}: box, score {box['score']:.3f}" for box in prediction["boxes"]]
    key_slice = prediction.get("key_slice")
    return [
        *([] if key_slice is None else [KeySlice(**key_slice).sentence]),
        *(finding_text(finding) for finding in prediction["findings"]),
        *boxes,
        *(_segment_text(segment) for segment in prediction["segments"]),
    ]


def _segment_text(segment: dict[str, Any]) -> str:
    if not segment["voxels"]:
        return f"{segment['label']}: not found"
    volume = segment["volume_ml"]
    size = f"{segment['voxels']} pixels" if volume is None else f"{volume:.1f} ml"
    return f"{segment['label']}: outlined, {size}"


def finding_text(finding: dict[str, Any]) -> str:
    """Return a finding in words: label, probability, threshold."""
    word = "positive" if finding["probability"] >= finding["threshold"] else "negative"
    return (
        f"{finding['label']}: {word}, probability {finding['probability']:.3f}"
        f" (threshold {finding['threshold']:.3f})"
    )
