"""How measured figures are called and written: one way for pages, cards and the scoreboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TITLES = {
    "ap50": "AP50",
    "auc": "AUC",
    "ci95": "95 %",
    "f1": "F1",
    "iou": "IoU",
    "mean_iou": "Mean IoU",
    "ms": "ms",
    "n": "n",
    "roc_auc": "ROC AUC",
}
LOWER_IS_BETTER = ("error", "loss", "distance", "false_refusals")
"""Ends of the names of figures that are better when lower."""


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval on a scale from 0 to 1, in percent of its length."""

    left: float
    width: float
    at: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, ready to be shown."""

    name: str
    text: str
    """Empty: it can't be computed."""
    interval: str = ""
    note: str = ""
    bar: Bar | None = None
    is_perfect: bool = False
    """The bootstrap sees no doubt, because nothing was wrong."""


def title_of(name: str) -> str:
    """Return how people call a figure: ``calibration_error`` is Calibration error."""
    words = name.replace("_", " ").strip()
    return _TITLES.get(name, words[:1].upper() + words[1:])


def figure_of(name: str, item: Any) -> Figure:
    """Return a figure of a record: ``{"value": …, "ci95": [low, high]}``, or a plain value."""
    title = title_of(name)
    if not isinstance(item, Mapping):
        return Figure(title, number(item))
    value, interval = item.get("value"), item.get("ci95")
    if value is None:
        return Figure(title, "")
    note = "lower is better" if is_lower_better(name) else ""
    if not interval:
        return Figure(title, number(value), note=note)
    low, high = interval
    return Figure(
        title,
        number(value),
        f"{number(low)} to {number(high)}",
        note,
        _bar(value, low, high),
        is_perfect=low == high == 1.0,
    )


def is_lower_better(name: str) -> bool:
    """Tell whether a lower figure is the better one."""
    return name.endswith(LOWER_IS_BETTER)


def number(value: Any) -> str:
    """Return a count as it is, and a share or measure with three decimals."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def with_interval(item: Mapping[str, Any]) -> str:
    """Return one figure in a line: ``0.957 (0.913 to 0.990)``; ``-`` if it can't be computed."""
    figure = figure_of("", item)
    if not figure.text:
        return "-"
    return f"{figure.text} ({figure.interval})" if figure.interval else figure.text


def _bar(value: float, low: float, high: float) -> Bar | None:
    if low < 0.0 or high > 1.0:
        return None
    return Bar(round(100 * low, 1), round(100 * (high - low), 1), round(100 * value, 1))
