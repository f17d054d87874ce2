"""Fitting a gate: what it keeps out afterwards, and what is recorded of that."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from inference.descriptor import SIZE
from inference.gate import load_gate
from inference.manifest import load_manifest
from inference.quality import check_picture
from inference.registry import ModelPackage, load_model
from inference.source_image import SourceImage
from tests.inference.factories import facts, manifest_data, write_manifest
from tests.training.conftest import Cli
from training.errors import GateDataError, LabelsError, PictureError, PictureMissingError
from training.gate import OtherKind, fit_gate, gate_data, other_kind
from training.gate_changes import DAMAGES, generated, harmless, turned
from training.gate_data import as_it_is, list_pictures, looks_of
from training.gate_record import TITLE, gate_text, record_gate
from training.progress import Silent

SIDE = 72


def ring(random: np.random.Generator) -> np.ndarray:
    """Ours: a bright ring on grey."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    radius = random.uniform(0.5, 0.65)
    shape = np.exp(-(((np.hypot(y - random.normal(0, 0.05), x) - radius) / 0.15) ** 2))
    return 0.2 + 0.5 * shape + random.normal(0, 0.03, shape.shape)


def stripes(random: np.random.Generator) -> np.ndarray:
    """Another kind: slanting stripes."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    waves = np.sin((x + 0.7 * y) / random.uniform(3.0, 4.0) + random.uniform(0, 6))
    return 0.45 + 0.3 * waves + random.normal(0, 0.03, waves.shape)


def write_pictures(folder: Path, draw: Any, *, train: int = 24, val: int = 6) -> Path:
    random = np.random.default_rng(11)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(train + val):
        pixels = (draw(random) * 255).clip(0, 255).astype(np.uint8)
        name = f"images/{number:03}.png"
        Image.fromarray(pixels).save(folder / name)
        rows.append((name, "any", "train" if number < train else "val", f"g{number // 2}"))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "label", "split", "group"), *rows])
    return folder


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("gate") / "rings", ring)


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("gate") / "stripes", stripes)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose weights are never read."""
    folder = tmp_path_factory.mktemp("gate") / "models" / "toy"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"")
    data = manifest_data()
    data["weights"]["sha256"] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    write_manifest(folder, data)
    (folder / "metrics.json").write_text('{"model": "toy", "n": 6}')
    (folder / "MODEL_CARD.md").write_text("# Toy\n\nFigures.\n\n## Data\n\nGenerated.\n")
    return folder.parent


@pytest.fixture(scope="module")
def fitted(models: Path, rings: Path, striped: Path) -> dict[str, Any]:
    """The record of the gate that the command has fitted."""
    arguments = ["models", "gate", "toy", "--models", str(models), "--data", str(rings)]
    with pytest.MonkeyPatch.context() as patch:
        from pacsight.cli import main

        patch.setattr("sys.argv", ["pacsight", *arguments, "--against", str(striped)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    recorded: dict[str, Any] = json.loads((models / "toy" / "metrics.json").read_text())
    return recorded


def refusal(package: ModelPackage, pixels: np.ndarray) -> str:
    source = SourceImage.of(pixels.clip(0, 1).astype(np.float32), facts(), None)
    found = check_picture(source, package)
    return found.code if found is not None else ""


def test_gate_keeps_its_own_and_refuses_the_rest(fitted: dict[str, Any], models: Path) -> None:
    assert fitted["model"] == "toy"
    gate = fitted["gate"]
    assert gate["n"] == 6
    assert gate["false_refusals"]["value"] == 0.0
    assert gate["false_refusals"]["ci95"][1] == pytest.approx(0.4593, abs=1e-3)  # 1 - .025 ** (1/6)
    assert gate["codes"] == {}
    assert gate["true_refusals"]["stripes"] == {"n": 6, "value": 1.0, "ci95": [0.5407, 1.0]}
    assert set(gate["damaged"]) == set(DAMAGES)
    assert gate["damaged"]["empty (one value)"]["value"] == 1.0
    package = load_model(models / "toy")
    random = np.random.default_rng(77)
    assert refusal(package, ring(random)) == ""
    assert refusal(package, stripes(random)) == "OUT_OF_DISTRIBUTION"
    assert refusal(package, np.full((SIDE, SIDE), 0.5)) == "QUALITY_EMPTY"
    blurred = DAMAGES[next(iter(DAMAGES))](ring(random).clip(0, 1).astype(np.float32))
    assert refusal(package, blurred) == "QUALITY_BLURRED"


def test_gate_is_small_and_named_in_the_manifest(fitted: dict[str, Any], models: Path) -> None:
    del fitted
    path = models / "toy" / "gate.safetensors"
    assert path.stat().st_size < 200_000
    assert path.stat().st_mode & 0o777 == 0o644
    gate = load_manifest(models / "toy").gate
    assert gate is not None
    assert gate.file == path.name
    assert load_gate(path).components.shape[1] == SIZE


def test_card_has_one_section_however_often_it_is_written(
    fitted: dict[str, Any], models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models / "toy", tmp_path / "toy")
    card = tmp_path / "toy" / "MODEL_CARD.md"
    once = card.read_text()
    record_gate(tmp_path / "toy", fitted["gate"])
    assert card.read_text() == once
    assert once.startswith("# Toy\n\nFigures.\n\n## What it refuses\n")
    assert once.endswith("\n\n## Data\n\nGenerated.\n")
    assert once.count(TITLE) == 1
    assert "| `stripes`, 6 validation pictures | 100.0% (54.1% to 100.0%) |" in once
    assert "against training pictures of the other kinds" in gate_text(fitted["gate"])
    assert "training pictures alone." in gate_text({**fitted["gate"], "true_refusals": {}})


def test_same_data_give_the_same_gate(rings: Path) -> None:
    data = gate_data(rings, None)
    (first, limits), (second, same_limits) = (fit_gate(data, Silent(), 3) for _ in range(2))
    assert limits == same_limits
    np.testing.assert_array_equal(first.likeness_weights, second.likeness_weights)


def test_a_gate_without_other_kinds_still_refuses_what_is_far(rings: Path, striped: Path) -> None:
    gate, spec = fit_gate(gate_data(rings, None), Silent(), 1)
    far = other_kind(striped, Silent()).judged.descriptions
    near = looks_of(list_pictures(rings), Silent(), as_it_is, "").descriptions
    assert (gate.distances(near) <= spec.maximum_distance).all()
    assert (gate.distances(far) > spec.maximum_distance).all()
    assert spec.minimum_likeness is not None
    nothing = np.random.default_rng(5)
    looks = gate.distances(np.stack([_description(generated(nothing)) for _ in range(20)]))
    assert (looks > spec.maximum_distance).mean() > 0.8


def _description(picture: np.ndarray) -> np.ndarray:
    from inference.descriptor import describe

    return describe(picture)


def test_harmless_changes_keep_the_picture_and_damage_does_not() -> None:
    picture = ring(np.random.default_rng(1)).clip(0, 1).astype(np.float32)
    random = np.random.default_rng(2)
    for _ in range(10):
        other = harmless(picture, random)
        assert other.min() >= 0.0
        assert other.max() <= 1.0
        assert abs(other.mean() - picture.mean()) < 0.15
    assert len({turned(picture, turn).tobytes() for turn in range(8)}) == 8
    for damage in DAMAGES.values():
        assert damage(picture).shape == picture.shape
        assert not np.array_equal(damage(picture), picture)


def test_pictures_in_a_zip_file_are_found(rings: Path, tmp_path: Path) -> None:
    shutil.copy(rings / "labels.csv", tmp_path)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted((rings / "images").iterdir()):
            archive.write(path, f"images/{path.name}")
    (zipped, *_), (plain, *_) = list_pictures(tmp_path), list_pictures(rings)
    np.testing.assert_array_equal(zipped.read(), plain.read())


def test_volumes_are_seen_by_their_middle_slice_in_all_orientations(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    rows = ["file,split"]
    for number in range(9):
        voxels = np.stack([np.zeros((SIDE, SIDE)), 900 * ring(random), np.zeros((SIDE, SIDE))])
        image = nibabel.Nifti1Image(voxels.transpose(2, 1, 0).astype(np.int16), np.eye(4))
        nibabel.save(image, tmp_path / f"{number}.nii.gz")
        rows.append(f"{number}.nii.gz,{'train' if number < 8 else 'val'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = gate_data(tmp_path, None)
    gate, spec = fit_gate(data, Silent(), 1)
    middle = data.val[0].read()
    assert middle.shape == (SIDE, SIDE)
    sides = np.stack([_description(turned(middle, turn)) for turn in range(8)])
    assert (gate.distances(sides) < spec.maximum_distance).all()


def test_wrong_data_are_one_sentence(rings: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="can't be read"):
        gate_data(tmp_path, None)
    labels = tmp_path / "labels.csv"
    labels.write_text("label\nx\n")
    with pytest.raises(LabelsError, match="column 'file'"):
        gate_data(tmp_path, None)
    labels.write_text("file\nmissing.png\n")
    with pytest.raises(PictureMissingError, match=r"line 2: there is no file 'missing\.png'"):
        gate_data(tmp_path, None)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.nii.gz").write_bytes(b"no volume")
    labels.write_text("file\nbroken.png\nbroken.nii.gz\n")
    for item in list_pictures(tmp_path):
        with pytest.raises(PictureError, match=f"{item.name} can't be used"):
            item.read()
    with pytest.raises(GateDataError, match="1 training pictures; a gate needs at least 8"):
        gate_data(tmp_path, None)
    del rings


def test_without_validation_pictures_some_are_set_apart(tmp_path: Path) -> None:
    data = gate_data(write_pictures(tmp_path / "data", ring, train=24, val=0), None)
    assert (len(data.train), len(data.val)) == (20, 4)
    assert not {item.group for item in data.train} & {item.group for item in data.val}


def test_a_gate_that_nothing_can_judge_is_said_so(tmp_path: Path, cli: Cli, models: Path) -> None:
    shutil.copytree(models / "toy", tmp_path / "models" / "toy")
    data = write_pictures(tmp_path / "data", ring, train=9, val=0)
    labels = data / "labels.csv"
    labels.write_text(
        "\n".join(f"{row.rsplit(',', 1)[0]},one" for row in labels.read_text().split())
    )
    labels.write_text(labels.read_text().replace("split,one", "split,group"))
    result = cli("models", "gate", "toy", "--models", tmp_path / "models", "--data", data)
    assert result.status == 1
    assert "no validation pictures" in result.err
    missing = cli("models", "gate", "toi", "--models", tmp_path / "models", "--data", data)
    assert missing.status != 0
    assert "no model 'toi'" in missing.err


def test_the_own_folder_is_never_another_kind(
    tmp_path: Path, cli: Cli, models: Path, rings: Path
) -> None:
    shutil.copytree(models / "toy", tmp_path / "models" / "toy")
    arguments = ("models", "gate", "toy", "--models", tmp_path / "models", "--data", rings)
    result = cli(*arguments, "--against", rings, "--json")
    assert result.status == 0
    assert json.loads(result.out)["true_refusals"] == {}


def test_other_kinds_are_split_into_fitted_and_judged(striped: Path) -> None:
    kind = other_kind(striped, Silent())
    assert isinstance(kind, OtherKind)
    assert (len(kind.fitted), len(kind.judged)) == (24, 6)
