"""What a worker counts and times while it works."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

disable_created_metrics()  # when a series began: nobody asks

REGISTRY = CollectorRegistry()
"""Of this process; :mod:`pacsight.monitoring.server` serves it."""

TURNAROUND = Histogram(
    "pacsight_turnaround_seconds",
    "From the last object of a study to its results at a destination",
    ["modality"],
    buckets=(1, 2, 3, 5, 8, 13, 20, 40, 60, 120, 300, 600, 1800, 3600, 21600, 86400),
    registry=REGISTRY,
)
STAGE = Histogram(
    "pacsight_stage_seconds",
    "One unit of work, by how it ended: done, failed or tried again",
    ["stage", "outcome"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
    registry=REGISTRY,
)
INFERENCE = Histogram(
    "pacsight_inference_seconds",
    "One image or series through one model, reading included",
    ["model"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
    registry=REGISTRY,
)
DELIVERED = Counter(
    "pacsight_delivery_attempts",
    "Objects that were tried to be delivered, by what became of them",
    ["destination", "outcome"],
    registry=REGISTRY,
)
MODALITIES = frozenset(
    ("CR", "DX", "CT", "MR", "US", "MG", "NM", "PT", "XA", "RF", "OP", "OPT", "XC", "ES", "SM")
)
"""Values of Modality (PS3.3 section C.7.3.1.1.1) that metrics name; others come from outside and
may be anything."""


def modality_label(modality: str) -> str:
    """Return what a metric calls a modality."""
    return modality if modality in MODALITIES else "other"
