"""``manifest.yaml``: what a model is, what it takes, what it says. Data only, never code.

A model package is a folder ``checkpoints/<id>/`` with this file and a safetensors file. Everything
that differs between two models of one pipeline is written here::

    id: cxr-pneumonia                # = folder name
    version: 1.0.0
    name: Pneumonia on chest radiographs
    pipeline: classification
    intended_use: Second look at frontal chest radiographs; not for primary diagnosis
    research_statement: For research use only; not a medical device
    content_qualification: RESEARCH  # PS3.3 C.8.17.2 (0018,9004)
    licence: CC-BY-4.0
    training_data: [{name: …, licence: CC-BY-4.0, url: …}]
    accepts:                         # alternatives; an image needs to satisfy one of them
      - modality: [CR, DX]
        sop_class: ["1.2.840.10008.5.1.4.1.1.1"]
        photometric_interpretation: [MONOCHROME1, MONOCHROME2]
        body_part_examined: [CHEST, THORAX, ""]      # "": the attribute may be empty or absent
        view_position: [PA, AP, ""]
        excluded_image_types: [LOCALIZER]
        minimum_rows: 256
        minimum_columns: 256
    input: {shape: [3, 224, 224], color: gray, resize: squash, mean: [0.5], std: [0.5]}
    network: {name: mobilenetv2, channels: 1, args: {padding: same}}
    weights: {file: weights.safetensors, sha256: …}
    explain: {method: gradcam, layer: bn2}
    activation: sigmoid
    calibration: {temperature: 1.3, bias: [0.1]}
    outputs:
      - label: Pneumonia
        channel: 0
        threshold: 0.42
        concept: {scheme: SCT, value: "233604007", meaning: Pneumonia}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.errors import ManifestInvalidError, ManifestMissingError, PathEscapeError
from inference.gate_spec import GateSpec
from inference.manifest_errors import manifest_error
from inference.network_table import NETWORKS, ONNX, check_network, head_layer
from ledger.domain import ANATOMICAL_STRUCTURE, Code, ModelIdentity, SegmentKind

MANIFEST_NAME = "manifest.yaml"
MAX_MANIFEST_BYTES = 256 * 1024
_KINDS = {"classification": "classifier", "segmentation": "segmenter", "detection": "detector"}


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the least comes before the greatest")
    return ends


Pipeline = Literal["classification", "segmentation", "detection"]
Line = Annotated[str, Field(min_length=1, max_length=1024)]
CodeString = Annotated[str, Field(max_length=16, pattern=r"^[A-Z0-9 _]*$")]
"""A DICOM CS value (PS3.5 section 6.2), or ``""``."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Octet = Annotated[int, Field(ge=0, le=255)]
Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""Least and greatest."""


class ManifestPart(BaseModel):
    """Base of all parts: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSource(ManifestPart):
    """Where training data came from, and under which licence."""

    name: Line
    licence: Line
    url: str = ""


class Accepts(ManifestPart):
    """One kind of image that the model takes. Empty lists ask nothing.

    In `body_part_examined` and `view_position` an empty string allows an empty or absent attribute.
    """

    modality: tuple[CodeString, ...] = Field(min_length=1)
    sop_class: tuple[Annotated[str, Field(pattern=r"^[0-9.]{0,64}$")], ...] = ()
    photometric_interpretation: tuple[CodeString, ...] = ()
    body_part_examined: tuple[CodeString, ...] = ()
    view_position: tuple[CodeString, ...] = ()
    excluded_image_types: tuple[CodeString, ...] = ()
    excluded_description_words: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = ()
    """Whole words of Series Description (0008,103E), compared without case."""
    plane: tuple[CodeString, ...] = ()
    """AXIAL, CORONAL, SAGITTAL or OBLIQUE, by the image's orientation; ``""``: may be unknown."""
    contrast: Literal["any", "required", "refused"] = "any"
    """By Contrast/Bolus Agent."""
    pixel_spacing_mm: Range | None = None
    """Least and greatest, of both directions. An unknown one is accepted."""
    slice_spacing_mm: Range | None = None
    """Least and greatest distance of neighbouring slices of a series."""
    age_years: Range | None = None
    """Least and greatest age of the intended use. An unknown one is accepted."""
    patient_sex: tuple[CodeString, ...] = ()
    accepts_burned_in_annotation: bool = False
    """Whether images that say they have text burned in are taken."""
    minimum_rows: int = Field(default=1, ge=1)
    minimum_columns: int = Field(default=1, ge=1)
    maximum_frames: int = Field(default=1, ge=1)
    """Of a model of single images; the first frame is analysed."""


class Preference(ManifestPart):
    """One rule by which one of several series is preferred."""

    by: Literal["contrast", "plane", "description", "kernel", "slice_thickness", "slices"]
    values: tuple[Line, ...] = ()
    """Best first: planes; or what the series description or the kernel contains, without case."""
    nearest_mm: Annotated[float, Field(gt=0.0)] | None = None
    """Of slice_thickness."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.values) != (self.by in {"plane", "description", "kernel"}):
            raise ValueError("values belong to plane, description and kernel, and to these only")
        if (self.nearest_mm is None) == (self.by == "slice_thickness"):
            raise ValueError("nearest_mm belongs to slice_thickness, and to it only")
        return self


class InputSpec(ManifestPart):
    """What the network's input tensor is made of; see ``inference.preprocessing``."""

    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=3, max_length=4)
    """Channels (1 or 3), rows, columns; for volumes: channels, slices, rows, columns."""
    unit: Literal["image", "series"] = "image"
    """What one answer is about. A series is a volume: its slices in order along their normal."""
    slices: Literal["apart", "together"] = "apart"
    """Of images: whether each image of a series gets its own answer, or the series gets one, with
    the slices that speak most for it."""
    spacing_mm: tuple[Annotated[float, Field(gt=0.0)], ...] | None = None
    """Of a series: slices, rows, columns. Volumes are resampled to it, masks back; null: not."""
    minimum_slices: Annotated[int, Field(ge=1)] = 3
    """Of a series."""
    intensity: Literal["display", "percentile"] = "display"
    """``percentile``, of a series: its 0.5 % and 99.5 % become 0 and 1; else as viewers show it."""
    neighbours: bool = False
    """Of a series seen slice by slice: the channels are the slice before, itself, and the next."""
    color: Literal["gray", "rgb"]
    """``gray``: colour is reduced to luminance, then repeated over the channels."""
    resize: Literal["squash", "letterbox"]
    """``squash`` ignores the aspect ratio; ``letterbox`` keeps it and fills up with black."""
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0.0)], ...]
    """Subtracted from and divided into values in [0, 1]; one number or one for each channel."""

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.shape[-2], self.shape[-1]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        channels, *sides = self.shape
        if channels not in {1, 3} or min(sides) < 8:
            raise ValueError("shape needs 1 or 3 channels and sides of at least 8")
        if self.unit == "image" and (len(self.shape) > 3 or self.spacing_mm is not None):
            raise ValueError("shape of four numbers and spacing_mm need unit: series")
        if self.unit == "series" and self.slices != "apart":
            raise ValueError("slices: together needs unit: image")
        if self.neighbours and (self.unit == "image" or self.shape[0] != 3 or len(self.shape) > 3):
            raise ValueError("neighbours needs unit: series and shape [3, rows, columns]")
        if self.unit == "image" and self.intensity != "display":
            raise ValueError("intensity percentile needs unit: series")
        if self.spacing_mm is not None and len(self.spacing_mm) != 3:
            raise ValueError("spacing_mm needs three numbers")
        if self.color == "rgb" and channels != 3:
            raise ValueError("color rgb needs 3 channels in shape")
        if len(self.mean) not in {1, channels} or len(self.std) not in {1, channels}:
            raise ValueError(f"mean and std need 1 or {channels} numbers")
        return self


class NetworkRef(ManifestPart):
    """A network by its name in ``inference.network_table``; never an import path."""

    name: str
    channels: int = Field(ge=1, le=1000)
    """How many logits it gives."""
    args: dict[str, str | int | float | bool] = {}


class Weights(ManifestPart):
    """The file of the weights, in the model's folder."""

    file: str = Field(max_length=255)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Explain(ManifestPart):
    """How a result is explained."""

    method: Literal["gradcam"]
    layer: str
    """The layer whose map is weighted: the network's last feature map."""


class Calibration(ManifestPart):
    """Logits become ``logit / temperature + bias`` before the activation."""

    temperature: float = Field(default=1.0, gt=0.0)
    bias: tuple[float, ...] = ()
    """One for each channel, or none."""


class Concept(ManifestPart):
    """A coded concept (PS3.3 section 8)."""

    scheme: str = Field(min_length=1, max_length=16)
    value: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)

    @property
    def code(self) -> Code:
        """The same as a domain value."""
        return Code(self.value, self.scheme, self.meaning)

    @classmethod
    def of(cls, code: Code) -> Concept:
        """Return the same as a part of a manifest."""
        return cls(scheme=code.scheme, value=code.value, meaning=code.meaning)


class SegmentSpec(ManifestPart):
    """How a mask is described in a DICOM SEG; its type is the output's concept."""

    category: Concept = Concept.of(ANATOMICAL_STRUCTURE)
    """Segmented Property Category (0062,0003), CID 7150."""
    region: Concept | None = None
    """Anatomic Region Sequence (0008,2218), where the concept doesn't say it."""
    color: tuple[Octet, Octet, Octet] | None = None
    """Recommended red, green, blue; null: one that people with any colour vision tell apart."""

    @property
    def kind(self) -> SegmentKind:
        """The same as a domain value."""
        region = None if self.region is None else self.region.code
        return SegmentKind(self.category.code, region, self.color)


class Output(ManifestPart):
    """One finding that the model reports."""

    label: Annotated[str, Field(min_length=1, max_length=64)]
    channel: int = Field(ge=0)
    threshold: Fraction
    concept: Concept
    keep: Literal["all", "largest"] = "all"
    """Of a mask: ``largest`` keeps only its largest connected part."""
    segment: SegmentSpec = SegmentSpec()
    """Of a mask."""


class Manifest(ManifestPart):
    """A whole ``manifest.yaml``."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    name: str = Field(min_length=1, max_length=64)
    pipeline: Pipeline
    intended_use: Line
    research_statement: Line
    content_qualification: Literal["RESEARCH"]
    licence: Line
    training_data: tuple[DataSource, ...] = Field(min_length=1)
    accepts: tuple[Accepts, ...] = Field(min_length=1)
    input: InputSpec
    network: NetworkRef
    weights: Weights
    gate: GateSpec | None = None
    """Which pictures are refused for how they look; null: none."""
    explain: Explain | None = None
    activation: Literal["softmax", "sigmoid"]
    calibration: Calibration = Calibration()
    outputs: tuple[Output, ...] = Field(min_length=1)
    prefer: tuple[Preference, ...] = ()
    """Which of several series that fit is taken: the first rule that tells two apart decides; then
    most slices, then the lowest number."""

    def looks_through(self, images: int) -> bool:
        """Whether so many images are slices of a series that get one answer together."""
        return self.input.slices == "together" and images > 1

    @property
    def takes_one_series(self) -> bool:
        """Whether one series of a study is analysed, as a whole."""
        return self.input.unit == "series" or self.input.slices == "together"

    @property
    def identity(self) -> ModelIdentity:
        """Id, version and digest: what results are signed with."""
        return ModelIdentity(self.id, self.version, self.weights.sha256, self.name)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        channels = self.network.channels
        used = [output.channel for output in self.outputs]
        labels = [output.label for output in self.outputs]
        if max(used) >= channels or len(set(used)) < len(used):
            raise ValueError(f"outputs need different channels under {channels}")
        if len(set(labels)) < len(labels):
            raise ValueError("outputs need different labels")
        if len(self.calibration.bias) not in {0, channels}:
            raise ValueError(f"calibration.bias needs no or {channels} numbers")
        if self.prefer and not self.takes_one_series:
            raise ValueError("prefer is for models that take one series")
        if self.input.slices == "together" and self.pipeline != "classification":
            raise ValueError("slices: together is for pipeline classification")
        if self.activation == "softmax" and channels < 2:
            raise ValueError("softmax needs at least 2 channels")
        return self


def load_manifest(folder: Path) -> Manifest:
    """Read and check ``manifest.yaml`` of a model folder; the weights are not touched.

    Raises
    ------
    ModelPackageError
        One of its kinds, with a sentence that names the folder and the key.
    """
    manifest = parse_manifest(_read_yaml(folder), folder.name)
    if manifest.id != folder.name:
        raise ManifestInvalidError(
            f"Model folder {folder.name!r}: id is {manifest.id!r}; it must be the folder's name."
        )
    weights_path(folder, manifest)
    return manifest


def parse_manifest(data: object, where: str) -> Manifest:
    """Check the content of a manifest; `where` names it in error messages.

    Raises
    ------
    ModelPackageError
        One of its kinds.
    """
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        raise manifest_error(error, Manifest, where) from error
    check_network(manifest.network.name, manifest.network.args, where)
    check_kind(manifest.network.name, manifest.pipeline, manifest.input, where)
    layer = head_layer(manifest.network.name)
    if manifest.explain is not None and manifest.explain.layer != layer:
        raise ManifestInvalidError(
            f"Model folder {where!r}: explain.layer of {manifest.network.name} is {layer!r}."
        )
    return manifest


def check_kind(name: str, pipeline: Pipeline, spec: InputSpec, where: str) -> None:
    """Refuse a network that can't give what the pipeline needs.

    Raises
    ------
    ManifestInvalidError
        It is of another kind, or only masks are made of series.
    """
    kind = NETWORKS[name].kind
    if kind != "graph" and kind != _KINDS[pipeline]:
        raise ManifestInvalidError(
            f"Model folder {where!r}: network {name} is a {kind}; pipeline {pipeline} needs a "
            f"{_KINDS[pipeline]}."
        )
    if spec.unit == "series" and pipeline != "segmentation":
        raise ManifestInvalidError(
            f"Model folder {where!r}: input.unit series is for pipeline segmentation only."
        )


def weights_path(folder: Path, manifest: Manifest) -> Path:
    """Return the path of the weights; whether the file is there is not asked.

    Raises
    ------
    PathEscapeError
        The name has a folder in it, or is a link to somewhere else.
    """
    name = manifest.weights.file
    path = folder / name
    suffix = "onnx" if manifest.network.name == ONNX else "safetensors"
    plain = re.fullmatch(rf"[A-Za-z0-9_][\w.-]*\.{suffix}", name, re.ASCII)
    if plain is None or path.resolve().parent != folder.resolve():
        raise PathEscapeError(
            f"Model folder {folder.name!r}: weights.file must be the name of a .{suffix} file "
            "in that folder."
        )
    return path


def _read_yaml(folder: Path) -> object:
    path = folder / MANIFEST_NAME
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ManifestMissingError(
            f"Model folder {folder.name!r}: {MANIFEST_NAME} can't be read ({error.strerror})."
        ) from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise ManifestInvalidError(f"Model folder {folder.name!r}: {MANIFEST_NAME} is too long.")
    try:
        return yaml.safe_load(text.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise ManifestInvalidError(
            f"Model folder {folder.name!r}: {MANIFEST_NAME} is not valid YAML{line}."
        ) from error
