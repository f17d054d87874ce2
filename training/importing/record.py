"""What is written beside imported weights: a card that claims nothing, and an empty record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inference.manifest import Manifest
from training.package import write_json
from training.verify import CARD_NAME, METRICS_NAME


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights came from.

    Attributes
    ----------
    file
        Name of the file or bundle.
    sha256
        Of the file of weights.
    names
        Whose names its tensors have.
    key
        Under which key of the file they were; ``""``: the whole file.
    """

    file: str
    sha256: str
    names: str
    key: str = ""


def write_record(folder: Path, manifest: Manifest, origin: Origin) -> None:
    """Write ``MODEL_CARD.md``, and ``metrics.json`` without figures."""
    size = (folder / manifest.weights.file).stat().st_size / 1e6
    findings = ", ".join(
        f"{output.label} ({output.concept.scheme} {output.concept.value}), "
        f"threshold {output.threshold:g}"
        for output in manifest.outputs
    )
    sources = "; ".join(f"{item.name} ({item.licence})" for item in manifest.training_data)
    key = f", key `{origin.key}`" if origin.key else ""
    rows = [
        ("Findings", findings),
        ("Network", f"{manifest.network.name}, {size:.1f} MB"),
        ("Imported from", f"`{origin.file}`{key}; sha256 `{origin.sha256}`"),
        ("Names of its tensors", origin.names),
        ("Licence of the weights", manifest.licence),
        ("Training data, as stated", sources),
        ("Explanation", "Grad-CAM of the last feature map" if manifest.explain else "none"),
        ("sha256 here", f"`{manifest.weights.sha256}`"),
    ]
    parts = [
        f"# {manifest.name} ({manifest.id} {manifest.version})",
        f"**{manifest.research_statement}.** {manifest.intended_use}.",
        "**Imported, not evaluated here.** Nothing is known here about how good this model is; "
        "thresholds and calibration are as the draft stated them. Measure it on data of your own "
        "before anyone looks at its results.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]),
        "What was checked: every tensor of the network was in the file and had the right shape, "
        "and the model runs. What can't be checked: whether `input` prepares images as they were "
        "prepared in training, and whether the outputs are in the order that the draft says.",
    ]
    (folder / CARD_NAME).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    record = {
        "model": manifest.id,
        "version": manifest.version,
        "n": 0,
        "metrics": {},
        "per_class": {},
        "per_source": {},
        "how": {
            "imported": {
                "file": origin.file,
                "sha256": origin.sha256,
                "key": origin.key or None,
                "names": origin.names,
            }
        },
    }
    write_json(folder / METRICS_NAME, record)
