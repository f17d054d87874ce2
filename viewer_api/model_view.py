"""What people should know of a model: its card and its measured figures."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from inference.registry import ModelPackage

FIGURES = {
    "accuracy": "accuracy", "auc": "AUC", "recall": "recall", "specificity": "specificity",
    "dice": "Dice", "mean_iou": "mean IoU", "quadratic_kappa": "quadratic kappa",
}  # fmt: skip
"""What people call them; shown in this order where a model has them."""


def figures(package: ModelPackage) -> list[dict[str, Any]]:
    """Return measured figures with their 95 % intervals; none if the package has none."""
    return list(_figures(package.folder / "metrics.json"))


@lru_cache(maxsize=64)
def _figures(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        metrics = data["metrics"]
        known = [(said, metrics[name]) for name, said in FIGURES.items() if name in metrics]
        return tuple(
            {
                "name": name,
                "value": float(one["value"]),
                "low": float(one["ci95"][0]),
                "high": float(one["ci95"][1]),
                "n": int(data["n"]),
            }
            for name, one in known
            if one["value"] is not None  # such as specificity where every picture has the disease
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return ()


@lru_cache(maxsize=64)
def card_html(folder: Path) -> str:
    """Return the model card as HTML; raw HTML in it stays text, pictures are left out."""
    try:
        text = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    except OSError:
        return ""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("image", lambda *_: "")
    html = markdown.render(text)
    scrolled = html.replace(
        "<table>", '<div class="scroll" tabindex="0"><table>'
    )  # by keyboard too
    return str(scrolled.replace("</table>", "</table></div>"))
