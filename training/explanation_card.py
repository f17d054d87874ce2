"""What the model card says about how faithful the heatmaps are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.figures import with_interval


def explanation_section(record: Mapping[str, Any]) -> str:
    """Return the card's section; empty if ``metrics.json`` has no ``explanation``."""
    measured = record.get("explanation")
    if not measured:
        return ""
    parts = ["## Are the heatmaps faithful?"]
    pointing = measured.get("pointing_game")
    if pointing:
        parts.append(_pointing(pointing))
    deletion = measured.get("deletion")
    if deletion:
        parts.append(_deletion(deletion))
    return "\n\n".join(parts)


def _pointing(measured: Mapping[str, Any]) -> str:
    return (
        f"Pointing game on {measured['data']} ({measured['n']} pictures with boxes): the hottest "
        f"pixel lies in a box in {with_interval(measured['hits'])} of the pictures; a random pixel "
        f"would in {measured['chance']:.3f}. Of all heat {with_interval(measured['heat'])} lies in "
        "boxes."
    )


def _deletion(measured: Mapping[str, Any]) -> str:
    rows = [
        f"| {share:.0%} | {hot:.3f} | {other:.3f} |"
        for share, hot, other in zip(
            measured["shares"], measured["lost"], measured["lost_elsewhere"], strict=True
        )
    ]
    return "\n".join(
        [
            f"Deletion on {measured['data']} ({measured['n']} pictures with a positive finding): "
            "the hottest part of a picture is blurred away; how much of the finding's probability "
            "goes with it, against blurring a part of the same size and shape elsewhere. Over all "
            "parts "
            f"{with_interval(measured['mean_lost'])} is lost, elsewhere "
            f"{with_interval(measured['mean_lost_elsewhere'])}.",
            "",
            "| blurred | probability lost | lost elsewhere |",
            "|---|---|---|",
            *rows,
        ]
    )
