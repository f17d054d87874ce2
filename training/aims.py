"""What models are measured against: figures of papers, and this project's aims (``aims.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.figures import number, title_of

_MAIN = {"classification": "auc", "segmentation": "dice", "detection": "mean_iou"}


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure to reach."""

    metric: str
    """As in ``metrics.json``."""
    paper: float | None = None
    aim: float | None = None

    def missed_by(self, metrics: Mapping[str, Any]) -> float | None:
        """Return how far `metrics` stay below the aim; 0 if it is reached, None without an aim."""
        value = metrics.get(self.metric, {}).get("value")
        if self.aim is None or value is None:
            return None
        return max(0.0, round(self.aim - value, 4))


def aims_of(model_id: str, pipeline: str) -> tuple[Aim, ...]:
    """Return the figures that matter for a model, the main one first; at least one."""
    known = yaml.safe_load((Path(__file__).parent / "aims.yaml").read_text(encoding="utf-8"))
    if model_id not in known:
        return (Aim(_MAIN[pipeline]),)
    return tuple(Aim(**values) for values in known[model_id])


def comparison_of(model_id: str, pipeline: str, metrics: Mapping[str, Any]) -> str:
    """Return sentences that hold `metrics` against aims and papers; empty where there are none."""
    aims = [aim for aim in aims_of(model_id, pipeline) if aim.metric in metrics]
    sentences = []
    for aim in aims:
        missed = aim.missed_by(metrics)
        if missed is not None:
            end = f"missed by {missed:.3f}" if missed else "reached"
            sentences.append(f"The aim was {_called(aim)} {number(aim.aim)}: {end}.")
    papers = [f"{_called(aim)} {number(aim.paper)}" for aim in aims if aim.paper is not None]
    if papers:
        shown = " and ".join(papers)
        sentences.append(f"The paper of this task reports {shown}, on other pictures.")
    return " ".join(sentences)


def _called(aim: Aim) -> str:
    """Return the figure's name within a sentence: only plain words lose their capital."""
    title = title_of(aim.metric)
    first = title.split()[0]
    is_name = first == "Dice" or not first[1:].islower()
    return title if is_name else title[0].lower() + title[1:]
