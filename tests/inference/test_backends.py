from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import inference.backends
from inference.backends import choose_backend, open_backend
from inference.backends.model_cache import ModelCache
from inference.backends.openvino_backend import OpenVinoBackend
from inference.backends.torch_backend import TorchBackend
from inference.config import InferenceConfig
from inference.errors import BackendError
from inference.registry import ModelPackage

BATCH = np.random.default_rng(3).normal(size=(3, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def openvino_backend(toy: ModelPackage, model_cache: Path) -> OpenVinoBackend:
    return OpenVinoBackend(toy, InferenceConfig(cache_dir=model_cache))


def test_openvino_agrees_with_torch(toy: ModelPackage, openvino_backend: OpenVinoBackend) -> None:
    reference = TorchBackend(toy, InferenceConfig(threads=2))
    for expected, actual in zip(reference.run(BATCH), openvino_backend.run(BATCH), strict=True):
        assert actual.shape == expected.shape
        assert actual.dtype == np.float32
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_no_gpu_computes_with_fewer_bits(toy: ModelPackage) -> None:
    import torch

    torch.backends.cudnn.allow_tf32 = True  # as PyTorch starts
    TorchBackend(toy, InferenceConfig())
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_each_image_of_a_batch_is_its_own(openvino_backend: OpenVinoBackend) -> None:
    logits, features = openvino_backend.run(BATCH)
    for index in range(3):
        one_logits, one_features = openvino_backend.run(BATCH[index : index + 1])
        np.testing.assert_array_equal(one_logits[0], logits[index])
        np.testing.assert_array_equal(one_features[0], features[index])


def test_many_threads_get_their_own_answers(openvino_backend: OpenVinoBackend) -> None:
    images = np.random.default_rng(4).normal(size=(24, 1, 3, 64, 64)).astype(np.float32)
    expected = [openvino_backend.run(image)[0] for image in images]
    with ThreadPoolExecutor(6) as pool:
        actual = list(pool.map(lambda image: openvino_backend.run(image)[0], images))
    np.testing.assert_array_equal(actual, expected)


def cached(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_second_load_comes_from_the_cache_without_torch(
    toy: ModelPackage, openvino_backend: OpenVinoBackend, model_cache: Path
) -> None:
    before = [(path, path.stat().st_mtime_ns) for path in cached(model_cache)]
    program = f"""
import sys
from pathlib import Path
import numpy as np
from inference.config import InferenceConfig
from inference.errors import BackendError
from inference.model_server import ModelServer
from inference.registry import scan_models
from inference.source_image import SourceImage
from ledger.domain import InstanceFacts

registry = scan_models(Path({str(toy.folder.parent)!r}))
server = ModelServer(registry, InferenceConfig(cache_dir=Path({str(model_cache)!r})))
image = SourceImage.of(np.eye(80, dtype=np.float32), InstanceFacts("", "", "", "", ""), None)
assert server.predict("toy", image).heatmap.array.shape == (80, 80)
assert "torch" not in sys.modules, "torch was loaded"
assert "timm" not in sys.modules, "timm was loaded"
assert "openvino_telemetry" not in sys.modules, "telemetry was loaded"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert [(path, path.stat().st_mtime_ns) for path in cached(model_cache)] == before


def test_models_can_be_converted_by_several_threads(toy: ModelPackage) -> None:
    config = InferenceConfig(cache_dir=None)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: OpenVinoBackend(toy, config), range(4)))
    first = opened[0].run(BATCH)[0]
    for backend in opened[1:]:
        np.testing.assert_array_equal(backend.run(BATCH)[0], first)


def test_cache_entry_that_openvino_does_not_take_is_made_again(
    toy: ModelPackage, openvino_backend: OpenVinoBackend, model_cache: Path, tmp_path: Path
) -> None:
    (good,) = cached(model_cache)
    content = b"whole, but not a model"
    path = tmp_path / good.name
    path.write_bytes(hashlib.sha256(content).digest() + content)
    again = OpenVinoBackend(toy, InferenceConfig(cache_dir=tmp_path))
    np.testing.assert_array_equal(again.run(BATCH)[0], openvino_backend.run(BATCH)[0])
    assert cached(tmp_path) == [path]
    assert path.stat().st_size > toy.weights.stat().st_size / 2


@pytest.mark.parametrize("damage", ["empty", "short", "long", "bit in front", "bit at the end"])
def test_every_damage_reads_as_absent(tmp_path: Path, damage: str) -> None:
    cache = ModelCache(tmp_path)
    cache.write(("key",), b"content" * 100)
    (path,) = cached(tmp_path)
    good = path.read_bytes()
    assert cache.read(("key",)) == b"content" * 100
    changed = {
        "empty": b"",
        "short": good[:-1],
        "long": good + b"x",
        "bit in front": bytes([good[0] ^ 1]) + good[1:],
        "bit at the end": good[:-1] + bytes([good[-1] ^ 1]),
    }
    path.write_bytes(changed[damage])
    assert cache.read(("key",)) is None


def test_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ModelCache(tmp_path / "file")
    cache.write(("key",), b"content")
    assert cache.read(("key",)) is None
    ModelCache(None).write(("key",), b"content")
    assert ModelCache(None).read(("key",)) is None


def test_writers_at_once_leave_one_whole_entry(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path)
    content = bytes(range(256)) * 4096
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.write(("key",), content), range(40)))
    assert cache.read(("key",)) == content
    assert len(cached(tmp_path)) == 1
    assert cache.read(("other",)) is None


def test_automatic_choice_is_openvino_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(inference.backends, "NVIDIA_DEVICES", tmp_path / "absent")
    assert choose_backend(InferenceConfig()) == "openvino"
    assert choose_backend(InferenceConfig(backend="torch")) == "torch"


def test_automatic_choice_asks_torch_where_a_driver_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(inference.backends, "NVIDIA_DEVICES", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_backend(InferenceConfig()) == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_backend(InferenceConfig()) == "openvino"


def test_settings_choose_the_engine(toy: ModelPackage, model_cache: Path) -> None:
    backends = [
        open_backend(toy, InferenceConfig(backend=name, cache_dir=model_cache))
        for name in ("torch", "openvino")
    ]
    assert [backend.name for backend in backends] == ["torch", "openvino"]
    assert all(backend.resident_bytes > toy.weights.stat().st_size for backend in backends)


def test_input_of_another_shape_is_a_coded_error(
    toy: ModelPackage, openvino_backend: OpenVinoBackend
) -> None:
    wrong = np.zeros((1, 4, 64, 64), np.float32)
    for backend in (openvino_backend, TorchBackend(toy, InferenceConfig())):
        with pytest.raises(BackendError) as caught:
            backend.run(wrong)
        assert caught.value.code == "BACKEND_UNAVAILABLE"
        assert backend.run(BATCH)[0].shape == (3, 2)


def test_missing_openvino_names_the_way_out(
    toy: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"set inference.backend to torch"):
        OpenVinoBackend(toy, InferenceConfig())
