"""The kinds of models that can be trained and evaluated, by the pipeline that serves them."""

from __future__ import annotations

from collections.abc import Mapping

from training.task import Kind
from training.tasks import classification

KINDS: Mapping[str, Kind] = {
    "classification": classification,
}
