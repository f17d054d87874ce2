from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from inference.errors import ModelNotFoundError, ModelsFolderError
from inference.registry import ModelPackage, Registry, scan_models
from tests.inference.factories import manifest_data, write_manifest


def copy_of(toy: ModelPackage, root: Path) -> Path:
    return Path(shutil.copytree(toy.folder, root / "toy"))


def test_good_and_broken_folders_are_told_apart(
    toy: ModelPackage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy_of(toy, tmp_path)
    (tmp_path / "empty").mkdir()
    write_manifest(tmp_path / "no-weights", manifest_data(id="no-weights"))
    write_manifest(tmp_path / "typo", manifest_data(id="typo", nam="x"))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "_draft").mkdir()
    (tmp_path / "README.md").write_text("a file, not a model")
    with caplog.at_level(logging.WARNING):
        registry = scan_models(tmp_path)
    assert [model.manifest.id for model in registry.models] == ["toy"]
    assert [model.id for model in registry.manifests] == ["toy"]
    assert [(broken.folder.name, broken.code) for broken in registry.broken] == [
        ("empty", "MODEL_MANIFEST_MISSING"),
        ("no-weights", "MODEL_WEIGHTS_MISSING"),
        ("typo", "MODEL_UNKNOWN_KEY"),
    ]
    assert "typo is skipped: MODEL_UNKNOWN_KEY" in caplog.text


def test_changed_byte_in_the_weights_breaks_the_model(toy: ModelPackage, tmp_path: Path) -> None:
    weights = copy_of(toy, tmp_path) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    registry = scan_models(tmp_path)
    assert registry.models == ()
    (broken,) = registry.broken
    assert broken.code == "MODEL_WEIGHTS_DIGEST"
    assert toy.identity.digest[:12] in broken.message


def test_unreadable_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelsFolderError, match="correct models_dir"):
        scan_models(tmp_path / "absent")


def test_unknown_model_names_the_known_ones(toy: ModelPackage) -> None:
    with pytest.raises(ModelNotFoundError, match="there are: toy"):
        Registry((toy,)).get("cxr")
    with pytest.raises(ModelNotFoundError, match="there are: none"):
        Registry().get("cxr")


def test_broken_model_says_why_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"can't be used: .*manifest\.yaml"):
        scan_models(tmp_path).get("empty")


def test_identity_is_that_of_the_manifest(toy: ModelPackage) -> None:
    assert toy.identity == toy.manifest.identity
