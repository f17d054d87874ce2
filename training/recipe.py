"""A recipe: everything that decides what a model becomes, in one YAML file.

The data folder and the start weights are named on the command line; the rest is here, and a copy
goes into the checkpoint. See ``docs/training.md``, and ``training/recipes/`` for real ones.
"""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inference.errors import ModelPackageError
from inference.manifest import (
    Accepts,
    Concept,
    DataSource,
    InputSpec,
    NetworkRef,
    Pipeline,
    Preference,
    check_kind,
)
from inference.network_table import check_network
from training.errors import RecipeError
from training.layouts import LayoutSpec

RECIPE_NAME = "recipe.yaml"
_METRICS = {
    "classification": ("auc", "f1", "accuracy", "log_loss", "quadratic_kappa"),
    "segmentation": ("dice",),
    "detection": ("mean_iou", "f1"),
}

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class RecipePart(BaseModel):
    """Base of all parts: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AlsoSpec(RecipePart):
    """Another data folder of the same layout, whose training pictures are learnt from too."""

    folder: str = Field(min_length=1)
    """Relative to the data folder, such as ``../other``."""
    labels: dict[str, str] = {}
    """Which of the recipe's classes each of its labels is; empty: they are called the same. With
    boxes ``""`` says that there is nothing to find."""
    boxes: dict[str, str] = {}
    """Boxes of its pictures, by file, as a ``labels.csv`` of boxes would have them. Of boxes only;
    pictures of a class without boxes are left out."""
    weight: Positive = 1.0
    """Of boxes: how often its pictures are learnt from, against those of the data folder."""

    @field_validator("folder")
    @classmethod
    def _relative(cls, folder: str) -> str:
        if Path(folder).is_absolute():
            raise ValueError("a path relative to the data folder is needed, such as ../other")
        return folder


class DataSpec(RecipePart):
    """Which labels there are, and how to split a folder that has no splits."""

    classes: tuple[str, ...] = Field(min_length=1)
    """Of pictures: values of the column ``label``; two have one logit, for the second, more have
    one each. Of masks: structures in the order of their values, from 1. Of boxes: kinds of them."""
    multi_label: bool = False
    """Each class is a column of 0 and 1, and a picture may show several or none of them."""
    layout: LayoutSpec | None = None
    """How to label the pictures of a public set that has no ``labels.csv``."""
    ordinal: bool = False
    """The classes are grades, lowest first: mistakes are judged by how far they are off too."""
    also: tuple[AlsoSpec, ...] = ()
    """More pictures to learn from. Validation and test stay those of the data folder."""
    validation_share: Share = 0.15
    """When ``labels.csv`` names no validation pictures: of the training pictures, or of all
    pictures when there is no column ``split``."""
    test_share: Share = 0.15
    """Of all pictures, when ``labels.csv`` has no column ``split``."""


class NetworkSpec(RecipePart):
    """A network of ``inference.network_table`` and what of it is trained."""

    name: str
    args: dict[str, str | int | float | bool] = {}
    batch_norm: Literal["frozen", "trained", "measured"] = "frozen"
    """``frozen`` keeps the start weights' statistics. Where they were folded in, ``measured`` takes
    new ones from the training pictures before it trains them (:mod:`training.norms`)."""
    freeze: tuple[str, ...] = ()
    """First parts of the names of parameters that stay as they start, such as ``blocks.0``."""
    dropout: Share = 0.0
    """Before the last linear layer."""


class StartWeightsSpec(RecipePart):
    """The start weights that the recipe was made for, as the model card names them."""

    name: str
    licence: str
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")


class AugmentSpec(RecipePart):
    """Random changes of the training pictures; 0 switches one off."""

    rotate_degrees: float = Field(default=0.0, ge=0.0, le=180.0)
    scale: Share = 0.0
    """Largest change of size of each axis alone, as a share: zooms and squeezes."""
    shift: Share = 0.0
    """Largest move, as a share of the side."""
    flip: Literal["none", "horizontal", "both"] = "none"
    """Mirror images, where anatomy allows them."""
    gamma: Share = 0.0
    """Exponent of the grey curve between 1 - gamma and 1 / (1 - gamma)."""
    contrast: Share = 0.0
    brightness: Share = 0.0
    tint: Share = 0.0
    """Largest change of each colour's strength alone, as a share."""
    noise: Share = 0.0
    """Standard deviation of added noise; white is 1."""
    blur_px: float = Field(default=0.0, ge=0.0)
    """Largest standard deviation of a Gaussian, in network input pixels."""
    patch: tuple[Annotated[int, Field(ge=8)], ...] = ()
    """Of masks: sides of what is learnt from at a time; empty: those of the network's input."""
    elastic_px: float = Field(default=0.0, ge=0.0)
    """Of masks: largest bend of pictures, in pixels."""
    patches: int = Field(default=1, ge=1)
    """Of masks: how often each picture or volume is drawn in an epoch."""
    cutout: Share = 0.0
    """Largest side of black rectangles painted over a picture, as a share of its side."""
    mixup: float = Field(default=0.0, ge=0.0)
    """Of classes: blends pictures and their classes by a share from Beta(mixup, mixup)."""
    cutmix: float = Field(default=0.0, ge=0.0)
    """Of classes: as `mixup`, with a rectangle of another picture. With both, either at random."""
    borrowed: Share = 0.0
    """Of boxes: share of the pictures with nothing to find that get an object of another one."""
    drawn: Share = 0.0
    """Of boxes: share of the pictures with nothing to find that get a drawn object."""


class LossSpec(RecipePart):
    """Cross-entropy (binary for two classes)."""

    label_smoothing: Share = 0.0
    balance: bool = True
    """Weigh classes as if they were equally frequent."""
    ordinal: float = Field(default=0.0, ge=0.0)
    """Weight of the squared error of the expected grade, of grades (``data.ordinal``) only."""


class ScheduleSpec(RecipePart):
    """AdamW with a one-cycle learning rate: linear rise, cosine fall."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=32, ge=2)
    learning_rate: Positive = 3e-4
    weight_decay: float = Field(default=0.02, ge=0.0)
    warm_up: Share = 0.15
    """Share of all steps in which the learning rate rises."""
    average_decay: Share = 0.0
    """Decay of the moving average of the weights, a step; the average becomes the model."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many epochs without a better validation figure; 0: never."""


class SelectSpec(RecipePart):
    """How the best epoch, the calibration and the operating threshold are chosen on validation."""

    metric: Literal["auc", "f1", "accuracy", "log_loss", "quadratic_kappa", "dice", "mean_iou"] = (
        "auc"
    )
    calibration: Literal["temperature", "temperature-and-bias"] = "temperature"
    threshold: Literal["f1", "f2", "accuracy", "balanced_accuracy"] = "f1"
    """What the operating threshold makes best, after smoothing over the logits. F2 weighs what is
    missed more than false alarms."""


class OutputSpec(RecipePart):
    """How a class is reported."""

    label: str
    concept: Concept
    keep: Literal["all", "largest"] = "all"
    """Of masks: ``largest`` keeps only the largest connected part."""


class CardSpec(RecipePart):
    """What only people know about the model: paragraphs of ``MODEL_CARD.md``."""

    data: str
    limits: tuple[str, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()


class ReportSpec(RecipePart):
    """Fields of the manifest that training doesn't find out."""

    intended_use: str
    research_statement: str = "For research use only; not a medical device"
    licence: str
    training_data: tuple[DataSource, ...] = Field(min_length=1)
    accepts: tuple[Accepts, ...] = Field(min_length=1)
    prefer: tuple[Preference, ...] = ()
    explain: Literal["gradcam"] | None = "gradcam"
    outputs: dict[str, OutputSpec] = Field(min_length=1)
    """By class; two classes: the second one only."""
    card: CardSpec


class Recipe(RecipePart):
    """A whole recipe."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    name: str = Field(min_length=1, max_length=64)
    pipeline: Pipeline = "classification"
    seed: int = Field(default=1, ge=0, lt=2**31)
    data: DataSpec
    input: InputSpec
    network: NetworkSpec
    start_weights: StartWeightsSpec | None = None
    augment: AugmentSpec = AugmentSpec()
    loss: LossSpec = LossSpec()
    schedule: ScheduleSpec
    select: SelectSpec = SelectSpec()
    report: ReportSpec

    @property
    def is_binary(self) -> bool:
        """Whether one logit tells two classes apart."""
        is_single = self.pipeline == "classification" and not self.data.multi_label
        return is_single and len(self.data.classes) == 2

    @property
    def activation(self) -> Literal["softmax", "sigmoid"]:
        """What turns logits into probabilities: softmax where exactly one class is true."""
        if self.pipeline == "detection" or self.data.multi_label or self.is_binary:
            return "sigmoid"
        return "sigmoid" if len(self.data.classes) == 1 else "softmax"

    @property
    def first_channel(self) -> int:
        """Channel of the first reported class: 1 where channel 0 is the background of masks."""
        return int(self.pipeline == "segmentation" and self.activation == "softmax")

    @property
    def network_ref(self) -> NetworkRef:
        """The network as manifests name it."""
        channels = self.first_channel + len(self.reported_classes)
        return NetworkRef(name=self.network.name, channels=channels, args=self.network.args)

    @property
    def reported_classes(self) -> tuple[str, ...]:
        """The classes with a logit of their own, in the order of channels."""
        return self.data.classes[1:] if self.is_binary else self.data.classes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.data.classes)) < len(self.data.classes):
            raise ValueError("data.classes has one class twice")
        if self.pipeline == "classification" and len(self.data.classes) < 2:
            raise ValueError("data.classes needs at least two classes")
        if self.data.multi_label and (self.pipeline != "classification" or self.data.ordinal):
            raise ValueError("data.multi_label is for classification without grades")
        layout = self.data.layout
        if layout is not None and set(layout.labels.values()) != set(self.data.classes):
            raise ValueError("data.layout.labels needs each of data.classes, and no others")
        if set(self.report.outputs) != set(self.reported_classes):
            wanted = ", ".join(self.reported_classes)
            raise ValueError(f"report.outputs needs exactly these classes: {wanted}")
        is_alone = self.is_binary or self.pipeline == "detection"
        if not is_alone and self.select.calibration != "temperature":
            raise ValueError("select.calibration of more than two classes is temperature")
        known = _METRICS[self.pipeline]
        if self.select.metric not in known:
            raise ValueError(f"select.metric of {self.pipeline} is one of {', '.join(known)}")
        self._check_grades()
        self._check_added()
        return self

    def _check_grades(self) -> None:
        if self.data.ordinal:
            if self.is_binary:
                raise ValueError("data.ordinal needs at least three classes")
            return
        if self.loss.ordinal:
            raise ValueError("loss.ordinal needs data.ordinal: true")
        if self.select.metric == "quadratic_kappa":
            raise ValueError("select.metric quadratic_kappa needs data.ordinal: true")

    def _check_added(self) -> None:
        nothing = ("",) if self.pipeline == "detection" else ()
        for added in self.data.also:
            for name in added.labels.values():
                if name not in (*self.data.classes, *nothing):
                    known = ", ".join(self.data.classes)
                    raise ValueError(f"data.also: {name!r} is not one of the classes {known}")


def load_recipe(path: Path, *, epochs: int | None = None) -> Recipe:
    """Read and check a recipe; `epochs`, if given, replaces the schedule's.

    Raises
    ------
    RecipeError
        With one sentence that names the file and the key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"Recipe {path} can't be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise RecipeError(f"Recipe {path} is not valid YAML{line}.") from error
    try:
        recipe = Recipe.model_validate(values)
        if epochs is not None:
            schedule = recipe.schedule.model_copy(update={"epochs": epochs})
            recipe = recipe.model_copy(update={"schedule": schedule})
        check_network(recipe.network.name, recipe.network.args, recipe.id)
        check_kind(recipe.network.name, recipe.pipeline, recipe.input, recipe.id)
    except ValidationError as error:
        raise RecipeError(f"Recipe {path}: {_first_problem(error)}") from error
    except ModelPackageError as error:
        raise RecipeError(f"Recipe {path}: {error}") from error
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe as YAML that :func:`load_recipe` reads back to an equal one."""
    values = recipe.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def recipe_digest(recipe: Recipe) -> str:
    """Return a sha256 of everything in the recipe that decides the weights, texts left out.

    Defaults are left out too, so that a new key of the schema changes no digest.
    """
    texts = {"version", "name", "report"}
    deciding = recipe.model_dump_json(exclude=texts, exclude_defaults=True)
    return hashlib.sha256(deciding.encode()).hexdigest()


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if unknown:
        known = _known_keys(Recipe, problem["loc"][:-1])
        near = get_close_matches(str(problem["loc"][-1]), known, 1)
        return f"unknown key {key!r}{f'; did you mean {near[0]!r}?' if near else '; remove it.'}"
    reason = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{key}: {reason}." if key else f"{reason}."


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        candidates: tuple[Any, ...] = (
            (field.annotation, *get_args(field.annotation)) if field else ()
        )
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        model = inner[0] if inner else model
    return list(model.model_fields)
