from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.errors import ModelPackageError
from inference.manifest import load_manifest, parse_manifest, weights_path
from tests.inference.factories import manifest, manifest_data, write_manifest

INPUT = manifest_data()["input"]
OUTPUT = manifest_data()["outputs"][0]

BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown key": ({"colour": 1}, "MODEL_UNKNOWN_KEY", "'colour'"),
    "near key": ({"intended_uses": "x"}, "MODEL_UNKNOWN_KEY", "did you mean 'intended_use'?"),
    "near key in a part": (
        {"input": INPUT | {"colr": "gray"}},
        "MODEL_UNKNOWN_KEY",
        "'input.colr'; did you mean 'color'?",
    ),
    "near key in a list": (
        {"outputs": [OUTPUT | {"treshold": 0.1}]},
        "MODEL_UNKNOWN_KEY",
        "'outputs.0.treshold'; did you mean 'threshold'?",
    ),
    "unknown network": (
        {"network": {"name": "mobilnet", "channels": 2}},
        "MODEL_NETWORK_UNKNOWN",
        "did you mean 'mobilenetv2'?",
    ),
    "import path as network": (
        {"network": {"name": "os.system", "channels": 2}},
        "MODEL_NETWORK_UNKNOWN",
        "use one of mobilenetv2",
    ),
    "unknown argument": (
        {"network": {"name": "resnet50", "channels": 2, "args": {"padding": "same"}}},
        "MODEL_NETWORK_ARGUMENT",
        "it knows none",
    ),
    "unknown value of an argument": (
        {"network": {"name": "mobilenetv2", "channels": 2, "args": {"padding": "reflect"}}},
        "MODEL_NETWORK_ARGUMENT",
        "padding=torch, padding=same",
    ),
    "wrong layer": (
        {"explain": {"method": "gradcam", "layer": "blocks.3"}},
        "MODEL_MANIFEST_INVALID",
        "is 'bn2'",
    ),
    "evaluated expression": ({"version": "$import os"}, "MODEL_MANIFEST_INVALID", "version"),
    "channel out of range": (
        {"outputs": [OUTPUT | {"channel": 2}]},
        "MODEL_MANIFEST_INVALID",
        "different channels under 2",
    ),
    "channel twice": (
        {"outputs": [OUTPUT, OUTPUT | {"label": "Other"}]},
        "MODEL_MANIFEST_INVALID",
        "different channels",
    ),
    "label twice": (
        {"outputs": [OUTPUT, OUTPUT | {"channel": 1}]},
        "MODEL_MANIFEST_INVALID",
        "different labels",
    ),
    "no outputs": ({"outputs": []}, "MODEL_MANIFEST_INVALID", "outputs"),
    "probability over 1": (
        {"outputs": [OUTPUT | {"threshold": 1.5}]},
        "MODEL_MANIFEST_INVALID",
        "outputs.0.threshold",
    ),
    "not a number": (
        {"outputs": [OUTPUT | {"threshold": float("nan")}]},
        "MODEL_MANIFEST_INVALID",
        "outputs.0.threshold",
    ),
    "calibration of other length": (
        {"calibration": {"bias": [1.0]}},
        "MODEL_MANIFEST_INVALID",
        "no or 2 numbers",
    ),
    "softmax of one": (
        {
            "activation": "softmax",
            "network": {"name": "mobilenetv2", "channels": 1},
            "outputs": [OUTPUT],
            "calibration": {},
        },
        "MODEL_MANIFEST_INVALID",
        "at least 2 channels",
    ),
    "colour without channels": (
        {"input": INPUT | {"shape": [1, 64, 64], "color": "rgb"}},
        "MODEL_MANIFEST_INVALID",
        "needs 3 channels",
    ),
    "mean of other length": (
        {"input": INPUT | {"mean": [0.1, 0.2]}},
        "MODEL_MANIFEST_INVALID",
        "1 or 3 numbers",
    ),
    "zero deviation": ({"input": INPUT | {"std": [0.0]}}, "MODEL_MANIFEST_INVALID", "input.std"),
    "network of another pipeline": (
        {"network": {"name": "wnet", "channels": 2}, "explain": None},
        "MODEL_MANIFEST_INVALID",
        "network wnet is a segmenter; pipeline classification needs a classifier",
    ),
    "findings of a series": (
        {"input": INPUT | {"unit": "series"}},
        "MODEL_MANIFEST_INVALID",
        "unit series is for pipeline segmentation only",
    ),
    "cleared for the clinic": (
        {"content_qualification": "PRODUCT"},
        "MODEL_MANIFEST_INVALID",
        "content_qualification",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_manifest_is_refused_with_code_and_key(name: str) -> None:
    changes, code, words = BROKEN[name]
    with pytest.raises(ModelPackageError) as caught:
        parse_manifest(manifest_data(**changes), "toy")
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "'toy'" in str(caught.value)


def test_unknown_key_is_reported_before_missing_ones() -> None:
    data = manifest_data(licens="MIT")
    del data["licence"]
    with pytest.raises(ModelPackageError) as caught:
        parse_manifest(data, "toy")
    assert caught.value.code == "MODEL_UNKNOWN_KEY"
    assert "did you mean 'licence'?" in str(caught.value)


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_content_that_is_no_mapping_is_refused(content: object) -> None:
    with pytest.raises(ModelPackageError) as caught:
        parse_manifest(content, "toy")
    assert caught.value.code == "MODEL_MANIFEST_INVALID"


def test_manifest_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        manifest().version = "2.0.0"  # type: ignore[misc]  # that is the test


def test_identity_has_the_digest_of_the_weights() -> None:
    identity = manifest(weights={"file": "w.safetensors", "sha256": "a" * 64}).identity
    assert (identity.model_id, identity.version, identity.digest) == ("toy", "1.0.0", "a" * 64)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelPackageError) as caught:
        load_manifest(tmp_path)
    assert caught.value.code == "MODEL_MANIFEST_MISSING"


@pytest.mark.parametrize(
    "text",
    [
        b"id: [",
        b"\xff\xfe\x00",
        b"!!python/object/apply:os.system ['true']",
        b"[" * 1500,
        b"a" * 300_000,
    ],
    ids=["syntax", "encoding", "python tag", "deep", "long"],
)
def test_manifest_that_is_no_plain_yaml(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "manifest.yaml").write_bytes(text)
    with pytest.raises(ModelPackageError) as caught:
        load_manifest(tmp_path)
    assert caught.value.code == "MODEL_MANIFEST_INVALID"


def test_id_has_to_be_the_folder_name(tmp_path: Path) -> None:
    write_manifest(tmp_path / "other", manifest_data())
    with pytest.raises(ModelPackageError, match="must be the folder's name"):
        load_manifest(tmp_path / "other")


@pytest.mark.parametrize(
    "name",
    ["../weights.safetensors", "/etc/passwd", "a/b.safetensors", "w.pth", "..", ".safetensors"],
)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    write_manifest(tmp_path / "toy", manifest_data(weights={"file": name, "sha256": "0" * 64}))
    with pytest.raises(ModelPackageError) as caught:
        load_manifest(tmp_path / "toy")
    assert caught.value.code == "MODEL_PATH_ESCAPES"


def test_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "toy", manifest_data())
    (tmp_path / "elsewhere.safetensors").write_bytes(b"")
    (tmp_path / "toy" / "weights.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelPackageError) as caught:
        weights_path(tmp_path / "toy", manifest())
    assert caught.value.code == "MODEL_PATH_ESCAPES"
