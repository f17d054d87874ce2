"""``pacsight demo``: what ``make demo`` runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pacsight.commands.output import print_table
from pacsight.commands.studies import finding_text, prediction_texts
from pacsight.settings import load_settings

if TYPE_CHECKING:
    from pacsight.demonstration import Outcomes, StudyOutcome


def demo(
    study: Annotated[
        Path | None, typer.Argument(help="A file or folder of your own.", exists=True)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "demo-output"
    ),
) -> None:
    """Push studies through a Pacsight of its own into a PACS and show what came back."""
    from pacsight.demonstration import demonstrate, fresh_folder
    from pacsight.samples import write_sample_studies

    console = Console(stderr=True)
    folder = fresh_folder(out)
    if study is None:
        files = write_sample_studies(folder / "samples")
        console.print(f"Synthetic sample studies: {folder / 'samples'}.")
    else:
        files = [study]
    with console.status("Starting …") as status:

        def say(sentence: str) -> None:
            console.print(sentence)
            status.update("Working …")

        outcomes = demonstrate(files, folder, load_settings().models_dir, say)
    _print(outcomes, folder)
    if outcomes.quarantined or not all(outcome.is_well for outcome in outcomes.studies):
        raise typer.Exit(1)


def _print(outcomes: Outcomes, folder: Path) -> None:
    columns = ("study", "why complete", "model", "finding", "delivered", "seconds")
    rows = [row for outcome in outcomes.studies for row in _rows(outcome)]
    for item in outcomes.quarantined:
        reason = f"quarantined: {item['code']}: {item['reason']}"
        rows.append([f"object …{item['sop_instance_uid'][-8:]}", "", "", reason, "", ""])
    print_table("What came back", columns, rows)
    if any(outcome.results for outcome in outcomes.studies):
        typer.echo(f"DICOM results as the PACS holds them: {folder / 'results'}")
    else:
        typer.echo("No results: nothing that was sent could be analysed.")
    for outcome in outcomes.studies:
        for picture in outcome.pictures:
            typer.echo(f"Heatmap: {picture}")
    typer.echo(f"Settings and log: {folder / 'pacsight.yaml'}, {folder / 'pacsight.log'}")


def _rows(outcome: StudyOutcome) -> list[list[str]]:
    report = outcome.report
    revision = report["revisions"][-1]
    study = f"{'/'.join(report['modalities'])} …{report['study_instance_uid'][-8:]}"
    because = revision["complete_because"]["code"]
    applied = [decision for decision in revision["decisions"] if not decision["refused"]]
    rows = [[study, because, *_answer(decision, report)] for decision in applied]
    if not applied:
        codes = Counter(decision["refused"]["code"] for decision in revision["decisions"])
        reasons = ", ".join(f"{code} ({count})" for code, count in codes.most_common())
        refused = f"not analysed because {reasons or 'no model is installed'}"
        rows.append([study, because, "", refused, "", ""])
    for failure in revision["failures"]:
        reason = f"not analysed because {failure['code']}: {failure['message']}"
        rows.append([study, because, failure["job"], reason, "", ""])
    return rows


def _answer(decision: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Return model, findings (of several images the most probable), objects, and seconds."""
    best: dict[str, dict[str, Any]] = {}
    for prediction in decision["predictions"]:
        for finding in prediction["findings"]:
            known = best.setdefault(finding["label"], finding)
            if finding["probability"] > known["probability"]:
                best[finding["label"]] = finding
    said = [finding_text(finding) for finding in best.values()]
    said += [
        text
        for prediction in decision["predictions"]
        for text in prediction_texts({**prediction, "findings": []})
    ]
    done = [item for item in decision["results"] if _delivered_at(item)]
    kinds = " + ".join(dict.fromkeys(item["kind"].upper() for item in done))
    last = max((_delivered_at(item) for item in done), default=0.0)
    seconds = f"{last - report['last_received_at']:.1f}" if done else ""
    return [f"{decision['model']} {decision['version']}", "\n".join(said), kinds, seconds]


def _delivered_at(item: dict[str, Any]) -> float:
    times = [delivery["delivered_at"] for delivery in item["deliveries"]]
    return max((at for at in times if at is not None), default=0.0)
