"""The network and weights of a MONAI bundle, without evaluating anything that it says.

Of ``configs/inference.json`` (or ``.yaml``) only ``network_def`` is looked at, and only its plain
values: ``$`` expressions would be Python, ``_target_`` an import. ``@`` references are followed
where they lead to plain values. ``models/model.pt`` is read as tensors only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inference.errors import NetworkArgumentError
from inference.manifest import NetworkRef
from inference.network_table import check_network
from training.importing.errors import ForeignNetworkError, SourceError, UnsafeSourceError
from training.importing.tensors import Found, read_source

_CONFIGS = tuple(
    f"configs/{name}.{suffix}"
    for name in ("inference", "train")
    for suffix in ("json", "yaml", "yml")
)
_KEYS = ("network_def", "network", "net")
_MODEL = "models/model.pt"
_MAX_BYTES = 4 << 20
_MAX_STEPS = 16
_NOTES = {"_target_", "_desc_", "_mode_", "_disabled_", "_requires_"}
_DIMENSIONS = ("spatial_dims", "dimensions")


@dataclass(frozen=True, slots=True)
class Counterpart:
    """How a network of MONAI's is called here."""

    network: str
    names: Mapping[str, str]
    """MONAI's argument -> the manifest's."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values that may stay unsaid, by MONAI's argument."""
    unused: frozenset[str] = frozenset()
    """Arguments that serve training only, or change nothing in the answer."""
    outputs: int | None = None
    channels: int | None = None
    dims: int | None = None


NETWORKS_OF_BUNDLES: Mapping[str, Counterpart] = {
    "UNet": Counterpart(
        "monai-unet",
        {
            "channels": "channels",
            "strides": "strides",
            "kernel_size": "kernel_size",
            "up_kernel_size": "up_kernel_size",
            "num_res_units": "num_res_units",
            "norm": "norm",
            "act": "act",
            "bias": "bias",
            "adn_ordering": "adn_ordering",
        },
        {"act": "prelu", "norm": "instance"},
        frozenset({"dropout"}),
    ),
    "BasicUNet": Counterpart(
        "monai-basic-unet",
        {"features": "features", "norm": "norm", "upsample": "upsample", "bias": "bias"},
        {
            "act": ["leakyrelu", {"negative_slope": 0.1, "inplace": True}],
            "norm": ["instance", {"affine": True}],
        },
        frozenset({"dropout"}),
        outputs=2,
        channels=1,
        dims=3,
    ),
    "SegResNet": Counterpart(
        "monai-segresnet",
        {
            "init_filters": "init_filters",
            "blocks_down": "blocks_down",
            "blocks_up": "blocks_up",
            "norm": "norm",
            "upsample_mode": "upsample_mode",
        },
        {
            "act": ["relu", {"inplace": True}],
            "norm": ["group", {"num_groups": 8}],
            "use_conv_final": True,
        },
        frozenset({"dropout_prob"}),
        outputs=2,
        channels=1,
        dims=3,
    ),
    "DenseNet121": Counterpart(
        "densenet121", {}, {}, frozenset({"dropout_prob", "pretrained", "progress"}), dims=None
    ),
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says about its network.

    Attributes
    ----------
    network
        Its name here, outputs and arguments.
    channels, dims
        Of its input.
    found
        Its tensors.
    """

    network: NetworkRef
    channels: int
    dims: int
    found: Found


def read_bundle(folder: Path, key: str | None = None) -> Bundle:
    """Read a bundle's folder.

    Raises
    ------
    SourceError
        It lacks a configuration, a network or weights.
    UnsafeSourceError
        The network's arguments are expressions, or the weights a program.
    ForeignNetworkError
        The network, or one of its arguments, is not on the list.
    """
    where, config = _read_config(folder)
    described = next((config[k] for k in _KEYS if isinstance(config.get(k), Mapping)), None)
    if described is None:
        raise SourceError(f"{where} has no network_def with plain values.")
    found = read_source(folder / _MODEL, key)
    return _Reader(where, config).bundle(described, found)


def _read_config(folder: Path) -> tuple[str, Mapping[str, Any]]:
    for name in _CONFIGS:
        path = folder / name
        if not path.is_file():
            continue
        if path.stat().st_size > _MAX_BYTES:
            raise SourceError(f"{name} is too long for a configuration.")
        try:
            text = path.read_text(encoding="utf-8")
            values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise SourceError(f"{name} of the bundle can't be read.") from error
        if isinstance(values, Mapping) and any(key in values for key in _KEYS):
            return name, values
    raise SourceError(f"{folder} is no MONAI bundle: it has no {_CONFIGS[0]} with a network_def.")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns the description of a network into plain values."""

    where: str
    config: Mapping[str, Any]

    def bundle(self, described: Mapping[str, Any], found: Found) -> Bundle:
        target = str(described.get("_target_", ""))
        package, _, name = target.rpartition(".")
        rule = NETWORKS_OF_BUNDLES.get(name)
        if rule is None or not (package == "" or package.startswith("monai.networks.nets")):
            raise ForeignNetworkError(
                f"{self.where}: network {target or 'without _target_'!r} is not on the list; "
                f"bundles of {', '.join(NETWORKS_OF_BUNDLES)} can be imported."
            )
        plain = {
            key: self._plain(value, key) for key, value in described.items() if key not in _NOTES
        }
        dims = next((plain.pop(key) for key in _DIMENSIONS if key in plain), rule.dims)
        dims = self._number("spatial_dims", dims)
        channels = self._number("in_channels", plain.pop("in_channels", rule.channels))
        outputs = self._number("out_channels", plain.pop("out_channels", rule.outputs))
        if rule.network == "densenet121" and dims != 2:
            raise ForeignNetworkError(
                f"{self.where}: DenseNet121 can be imported for pictures only (spatial_dims 2)."
            )
        args = self._arguments(plain, rule)
        if rule.network != "densenet121":
            args = {"dims": dims, **args}
        try:
            check_network(rule.network, args, self.where)
        except NetworkArgumentError as error:
            raise ForeignNetworkError(f"{self.where}: {str(error).partition(': ')[2]}") from error
        network = NetworkRef(name=rule.network, channels=outputs, args=args)
        return Bundle(network, channels, dims, found)

    def _number(self, key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
            raise SourceError(f"{self.where}: network_def.{key} must be a number from 1 to 1000.")
        return value

    def _arguments(self, plain: Mapping[str, Any], rule: Counterpart) -> dict[str, Any]:
        args: dict[str, Any] = {}
        for key, value in plain.items():
            if key in rule.unused or value is None or _same(value, rule.defaults.get(key)):
                continue
            written = _written(value)
            if key not in rule.names or written is None:
                raise ForeignNetworkError(
                    f"{self.where}: network_def.{key} = {value!r} is not supported "
                    f"for {rule.network}."
                )
            args[rule.names[key]] = written
        return args

    def _plain(self, value: Any, key: str, steps: int = 0) -> Any:
        """Return a value without expressions and references."""
        if isinstance(value, str) and value[:1] in {"$", "%"}:
            raise UnsafeSourceError(
                f"{self.where}: network_def.{key} is the expression {value[:60]!r}, which is not "
                "evaluated; put its value there."
            )
        if isinstance(value, str) and value.startswith("@"):
            if steps >= _MAX_STEPS:
                raise SourceError(f"{self.where}: network_def.{key} refers to itself.")
            return self._plain(self._referred(value[1:], key), key, steps + 1)
        if isinstance(value, list):
            return [self._plain(item, key, steps + 1) for item in value]
        if isinstance(value, Mapping):
            if "_target_" in value:
                raise UnsafeSourceError(
                    f"{self.where}: network_def.{key} would import {value['_target_']!r}; only "
                    "plain values are read."
                )
            return {name: self._plain(item, key, steps + 1) for name, item in value.items()}
        return value

    def _referred(self, reference: str, key: str) -> Any:
        value: Any = self.config
        for part in reference.replace("#", "::").split("::"):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise SourceError(
                    f"{self.where}: network_def.{key} refers to {reference!r}, which isn't there."
                )
        return value


def _same(value: Any, default: Any) -> bool:
    return default is not None and _lowered(value) == _lowered(default)


def _lowered(value: Any) -> Any:
    """Return names without regard to case, as MONAI takes them, and ``[name, {}]`` as the name."""
    if isinstance(value, str):
        return value.lower()
    if isinstance(value, list):
        lowered = [_lowered(item) for item in value]
        return lowered[0] if len(lowered) == 2 and lowered[1] == {} else lowered
    return value


def _written(value: Any) -> str | int | float | bool | None:
    """Return a value as a manifest's argument: ``[16, 32]`` becomes ``16-32``."""
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return "-".join(str(item) for item in value)
    plain = _lowered(value)
    return plain if isinstance(plain, str | int | float) else None
