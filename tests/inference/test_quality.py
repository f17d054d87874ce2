"""The gate before inference: which pictures it refuses, with which code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from inference.config import InferenceConfig
from inference.descriptor import SIZE, describe, floors, luminance, measure
from inference.errors import (
    BlurredImageError,
    ClippedImageError,
    EmptyImageError,
    GateDigestError,
    GateMissingError,
    GateUnreadableError,
    ManifestInvalidError,
    UnknownKeyError,
    UnknownKindError,
)
from inference.gate import Gate, check_gate, load_gate
from inference.gate_spec import GateSpec
from inference.manifest import parse_manifest
from inference.model_server import ModelServer
from inference.quality import check_picture, check_source, judge, middle_slice
from inference.registry import ModelPackage, Registry, load_model, scan_models
from inference.source_image import SourceImage
from inference.volume import Volume
from inference.weights import sha256_of
from tests.inference.factories import facts, manifest_data, write_manifest, write_model

Picture = np.ndarray[Any, np.dtype[np.float32]]


def scene(seed: int = 0, side: int = 160) -> Picture:
    """A bright ring with fine grain: the kind of picture that the toy gate knows."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    ring = np.exp(-(((np.hypot(y, x) - 0.6) / 0.2) ** 2))
    return (0.25 + 0.5 * ring + random.normal(0, 0.04, ring.shape)).clip(0, 1).astype(np.float32)


def source(array: Picture) -> SourceImage:
    return SourceImage.of(array.astype(np.float32), facts(), None)


def known_gate() -> Gate:
    """A gate of one main direction; the likeness is always 1."""
    rows = np.stack([describe(scene(seed)) for seed in range(6)])
    return Gate(
        center=rows.mean(axis=0),
        scale=2.0 * floors(),
        components=np.eye(1, SIZE, dtype=np.float32),
        variances=np.ones(1, np.float32),
        residual=np.ones(1, np.float32),
        likeness_weights=np.zeros(SIZE, np.float32),
        likeness_bias=np.ones(1, np.float32),
    )


LIMITS: dict[str, Any] = {
    "maximum_distance": 1.3,
    "minimum_likeness": 0.0,
    "minimum_sharpness": -0.1,
    "maximum_black": 0.2,
    "maximum_white": 0.2,
}


def write_gate(folder: Path, data: dict[str, Any], **limits: Any) -> None:
    known_gate().save(folder / "gate.safetensors")
    digest = sha256_of(folder / "gate.safetensors")
    data["gate"] = {"file": "gate.safetensors", "sha256": digest, **LIMITS, **limits}
    write_manifest(folder, data)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    """A model with a gate; its weights are no weights, because the gate comes first."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"never read")
    data = manifest_data()
    data["weights"]["sha256"] = sha256_of(folder / "weights.safetensors")
    write_gate(folder, data)
    return load_model(folder)


def changed(package: ModelPackage, **limits: Any) -> ModelPackage:
    assert package.manifest.gate is not None
    gate = package.manifest.gate.model_copy(update=limits)
    return replace(package, manifest=package.manifest.model_copy(update={"gate": gate}))


def test_a_known_picture_passes(package: ModelPackage) -> None:
    check_source(source(scene(99)), package)
    assert check_picture(source(scene(99)), package) is None


@pytest.mark.parametrize("side", [100, 160, 333, 1024])
def test_size_changes_little(side: int) -> None:
    gate = known_gate()
    assert gate.distances(describe(scene(3, side))[np.newaxis])[0] < 1.3


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda picture: np.full_like(picture, 0.4), EmptyImageError),
        (lambda picture: np.zeros_like(picture), EmptyImageError),
        (lambda picture: np.where(picture > 0.4, 1.0, picture), ClippedImageError),
        (lambda picture: np.where(picture < 0.4, 0.0, picture), ClippedImageError),
        (lambda picture: ndimage.gaussian_filter(picture, 3), BlurredImageError),
        (lambda picture: np.tile(np.linspace(0, 1, 160), (160, 1)) + 0.0 * picture, None),
        (lambda picture: np.stack([picture, 0.3 * picture, 0.1 * picture], axis=-1), None),
    ],
    ids=["gray", "black", "over", "under", "blur", "ramp", "colour"],
)
def test_each_fault_has_its_code(
    package: ModelPackage, spoil: Callable[[Picture], Picture], error: type[Exception] | None
) -> None:
    picture = source(spoil(scene(5)))
    loose = changed(package, minimum_sharpness=-9.0) if error is None else package
    with pytest.raises(error or UnknownKindError) as caught:
        check_source(picture, loose)
    refusal = check_picture(picture, loose)
    assert refusal is not None
    assert (refusal.code, refusal.message) == (caught.value.code, str(caught.value))


def test_refusal_names_the_model_and_what_to_do(package: ModelPackage) -> None:
    strict = changed(package, maximum_distance=0.001)
    refusal = check_picture(source(scene()), strict)
    assert refusal is not None
    assert refusal.code == "OUT_OF_DISTRIBUTION"
    assert "'Toy model'" in refusal.message
    assert "check" in refusal.message


def test_limits_are_inclusive() -> None:
    gate = known_gate()
    description, seen = describe(scene(1)), measure(scene(1))
    distance = float(gate.distances(description[np.newaxis])[0])

    def code(**limits: Any) -> str:
        spec = GateSpec(file="g.safetensors", sha256="0" * 64, **{**LIMITS, **limits})
        return judge(description, seen, gate, spec)

    assert code(maximum_distance=distance) == ""
    assert code(maximum_distance=distance * 0.999) == "OUT_OF_DISTRIBUTION"
    assert code(minimum_sharpness=seen.sharpness) == ""
    assert code(minimum_sharpness=seen.sharpness + 1e-6) == "QUALITY_BLURRED"
    assert code(minimum_likeness=1.0) == ""
    assert code(minimum_likeness=1.001) == "OUT_OF_DISTRIBUTION"
    assert code(minimum_likeness=None) == ""


def test_another_kind_is_called_so_even_if_it_is_blurred_too() -> None:
    picture = ndimage.gaussian_filter(scene(1), 3)
    spec = GateSpec(file="g.safetensors", sha256="0" * 64, **{**LIMITS, "minimum_likeness": 2.0})
    assert judge(describe(picture), measure(picture), known_gate(), spec) == "OUT_OF_DISTRIBUTION"


def test_a_model_without_gate_takes_everything(package: ModelPackage) -> None:
    manifest = package.manifest.model_copy(update={"gate": None})
    check_source(source(np.zeros((64, 64), np.float32)), replace(package, manifest=manifest))


def volume(array: Picture) -> Volume:
    return Volume(array.astype(np.float32), np.eye(4), ())


def test_a_series_is_judged_by_its_middle_slice(package: ModelPackage) -> None:
    slices = np.stack([scene(0), np.zeros((160, 160)), 1000.0 * scene(99), scene(1), scene(2)])
    check_source(volume(slices[[3, 3, 2, 2, 1]] / 1000.0 + slices[[2, 2, 2, 2, 2]]), package)
    with pytest.raises(EmptyImageError):
        check_source(volume(slices[[0, 0, 1, 0, 0]]), package)
    assert not middle_slice(np.full((3, 8, 8), 7, np.float32)).any()


def test_a_grey_picture_in_colour_is_the_same_picture() -> None:
    gray = scene(4)
    colored = np.stack([gray] * 3, axis=-1)
    np.testing.assert_allclose(describe(colored), describe(gray), atol=1e-4)
    np.testing.assert_allclose(measure(colored), measure(gray), atol=1e-4)
    assert luminance(gray) is gray


def test_sharpness_falls_with_blur_and_not_with_brightness() -> None:
    picture = scene(2)
    blurred = [measure(ndimage.gaussian_filter(picture, sigma)).sharpness for sigma in (1, 2, 4)]
    assert measure(picture).sharpness > blurred[0] > blurred[1] > blurred[2]
    assert measure(0.5 * picture).sharpness == pytest.approx(measure(picture).sharpness, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64, 3)])
def test_any_shape_is_described(shape: tuple[int, ...]) -> None:
    description = describe(np.random.default_rng(0).random(shape).astype(np.float32))
    assert description.shape == (SIZE,)
    assert np.isfinite(description).all()


def test_server_asks_the_gate_before_it_loads_the_model(package: ModelPackage) -> None:
    server = ModelServer(Registry((package,)), InferenceConfig(), has_gates=True)
    with pytest.raises(EmptyImageError):
        server.predict("toy", source(np.zeros((64, 64), np.float32)))
    assert server.loaded == ()


def test_server_without_gates_takes_the_picture(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    data = manifest_data()
    data["weights"]["sha256"] = sha256_of(folder / "weights.safetensors")
    write_gate(folder, data)
    registry = Registry((load_model(folder),))
    empty = source(np.zeros((64, 64), np.float32))
    assert ModelServer(registry, InferenceConfig(backend="torch")).predict("toy", empty).findings


def test_gate_file_is_checked_with_the_model(package: ModelPackage) -> None:
    path = package.folder / "gate.safetensors"
    good = path.read_bytes()
    path.write_bytes(good + b"\0")
    with pytest.raises(GateDigestError, match="the manifest says"):
        load_model(package.folder)
    (broken,) = scan_models(package.folder.parent).broken
    assert broken.code == "MODEL_GATE_DIGEST"
    path.unlink()
    with pytest.raises(GateMissingError, match=r"gate\.safetensors can't be read"):
        load_model(package.folder)


def test_gate_file_elsewhere_is_refused(package: ModelPackage, tmp_path: Path) -> None:
    path = package.folder / "gate.safetensors"
    path.rename(tmp_path / "gate.safetensors")
    path.symlink_to(tmp_path / "gate.safetensors")
    assert package.manifest.gate is not None
    with pytest.raises(Exception, match="must be the name of a file in that folder") as caught:
        check_gate(package.folder, package.manifest.gate)
    assert getattr(caught.value, "code", "") == "MODEL_PATH_ESCAPES"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"scale": np.zeros(SIZE, np.float32)}, "scale has a value that is not positive"),
        ({"center": np.zeros(7, np.float32)}, "center is not"),
        ({"variances": np.ones(3, np.float32)}, "components is not"),
        ({"residual": np.full(1, np.nan, np.float32)}, "residual is not"),
    ],
)
def test_gate_file_with_other_content_is_refused(
    tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    replace(known_gate(), **change).save(tmp_path / "gate.safetensors")
    with pytest.raises(GateUnreadableError, match=what):
        load_gate(tmp_path / "gate.safetensors")


def test_gate_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gate.safetensors"
    known_gate().save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(GateUnreadableError, match="fit the gate again"):
        load_gate(path)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"file": "../gate.safetensors"}, ManifestInvalidError, r"gate\.file"),
        ({"maximum_white": 1.5}, ManifestInvalidError, r"gate\.maximum_white"),
        ({"maximum_distanc": 1.3}, UnknownKeyError, "maximum_distance"),
    ],
)
def test_gate_of_a_manifest_is_checked(
    change: dict[str, Any], error: type[Exception], match: str
) -> None:
    gate = {"file": "gate.safetensors", "sha256": "0" * 64, **LIMITS, **change}
    with pytest.raises(error, match=match):
        parse_manifest(manifest_data(gate=gate), "toy")
