from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import inference.model_server
from inference.backends.base import Tensor
from inference.config import InferenceConfig
from inference.errors import InferenceError, ModelNotFoundError
from inference.heads import LinearHead
from inference.model_server import ModelServer
from inference.reading import read_image
from inference.registry import ModelPackage, Registry
from inference.source_image import SourceImage
from tests.inference.factories import dicom, facts, manifest, stream

RNG = np.random.default_rng(5)
IMAGE = SourceImage.of(RNG.random((120, 90), np.float32), facts(), None)


class KnownBackend:
    """A network whose answers are known: feature 0 is hot in the upper left corner."""

    name = "known"
    resident_bytes = 40 << 20

    def __init__(self, logits: tuple[float, float] = (2.0, -5.0)) -> None:
        self.logits = logits
        self.head = LinearHead(np.eye(2, dtype=np.float32))

    def run(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        features = np.zeros((len(batch), 2, 4, 4), np.float32)
        features[:, 0, 0, 0] = 1
        features[:, 1, 3, 3] = 1
        return np.array([self.logits] * len(batch), np.float32), features


class Loader:
    """Stands in for the engines; counts and can hold back loading."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.backend = KnownBackend()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, package: ModelPackage, config: InferenceConfig) -> KnownBackend:
        self.loaded.append(package.manifest.id)
        assert self.go.wait(10)
        return self.backend


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Loader:
    loader = Loader()
    monkeypatch.setattr(inference.model_server, "open_backend", loader)
    return loader


def packages(*ids: str) -> Registry:
    models = (ModelPackage(Path(one), manifest(id=one), Path(one) / "w") for one in ids)
    return Registry(tuple(models))


def test_prediction_of_a_known_network(loader: Loader) -> None:
    server = ModelServer(packages("toy"), InferenceConfig())
    prediction = server.predict("toy", IMAGE)
    # sigmoid(2 / 2) and sigmoid(-5 / 2 + 0.5), the toy manifest's calibration
    assert [finding.probability for finding in prediction.findings] == pytest.approx(
        [0.7310586, 0.1192029]
    )
    assert [finding.is_positive for finding in prediction.findings] == [True, False]
    assert prediction.model.model_id == "toy"
    assert prediction.sop_instance_uid == IMAGE.facts.sop_instance_uid
    assert prediction.seconds > 0
    assert prediction.heatmap is not None
    assert prediction.heatmap.label == "Pneumonia"
    assert prediction.heatmap.layer == "bn2"
    assert prediction.heatmap.array.shape == (120, 90)
    assert prediction.heatmap.array[0, 0] == 1
    assert prediction.heatmap.array[100, 80] == 0


def test_model_without_explanation_gives_no_heatmap(loader: Loader) -> None:
    registry = Registry((ModelPackage(Path("toy"), manifest(explain=None), Path("w")),))
    assert ModelServer(registry, InferenceConfig()).predict("toy", IMAGE).heatmap is None


def test_real_model_on_a_real_dicom(toy: ModelPackage, model_cache: Path) -> None:
    pixels = (RNG.random((200, 150)) * 4000).astype(np.uint16)
    image = read_image(stream(dicom(pixels, PhotometricInterpretation="MONOCHROME1")))
    answers = [
        ModelServer(
            Registry((toy,)), InferenceConfig(backend=backend, cache_dir=model_cache)
        ).predict("toy", image)
        for backend in ("openvino", "torch")
    ]
    for ours, reference in zip(answers[0].findings, answers[1].findings, strict=True):
        assert ours.probability == pytest.approx(reference.probability, abs=1e-4)
    maps = [answer.heatmap for answer in answers]
    assert maps[0] is not None
    assert maps[1] is not None
    assert maps[0].array.shape == (200, 150)
    assert maps[0].array.dtype == np.float32
    np.testing.assert_allclose(maps[0].array, maps[1].array, atol=1e-3)


def test_model_is_loaded_once_for_many_threads(loader: Loader) -> None:
    server = ModelServer(packages("toy"), InferenceConfig())
    loader.go.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(server.predict, "toy", IMAGE) for _ in range(16)]
        loader.go.set()
        assert len({answer.result().findings for answer in answers}) == 1
    assert loader.loaded == ["toy"]


def test_loading_one_model_does_not_stop_another(loader: Loader) -> None:
    server = ModelServer(packages("a", "b"), InferenceConfig())
    server.warm("a")
    loader.go.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.warm, "b")
        server.predict("a", IMAGE)
        assert not slow.done()
        loader.go.set()
        slow.result(10)


def test_least_recently_used_model_goes_first(
    loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    server = ModelServer(packages("a", "b", "c"), InferenceConfig(memory_budget_mb=100))
    server.predict("a", IMAGE)
    server.predict("b", IMAGE)
    server.predict("a", IMAGE)
    with caplog.at_level(logging.INFO):
        server.predict("c", IMAGE)
    assert server.loaded == ("a", "c")
    assert "model b unloaded" in caplog.text
    server.predict("b", IMAGE)
    assert loader.loaded == ["a", "b", "c", "b"]


def test_model_larger_than_the_budget_still_runs(loader: Loader) -> None:
    loader.backend.resident_bytes = 10 << 30
    server = ModelServer(packages("a", "b"), InferenceConfig(memory_budget_mb=64))
    server.predict("a", IMAGE)
    server.predict("b", IMAGE)
    assert server.loaded == ("b",)


def test_failed_load_is_tried_again(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ModelServer(packages("toy"), InferenceConfig())

    def broken(package: ModelPackage, config: InferenceConfig) -> KnownBackend:
        raise InferenceError("no")

    with monkeypatch.context() as patch:
        patch.setattr(inference.model_server, "open_backend", broken)
        with pytest.raises(InferenceError):
            server.warm("toy")
    assert server.loaded == ()
    server.warm("toy")
    assert server.loaded == ("toy",)


def test_unknown_model() -> None:
    with pytest.raises(ModelNotFoundError):
        ModelServer(Registry(), InferenceConfig()).predict("toy", IMAGE)


def test_too_small_image_is_refused(loader: Loader) -> None:
    pixel = SourceImage.of(np.zeros((1, 1), np.float32), facts(), None)
    with pytest.raises(InferenceError) as caught:
        ModelServer(packages("toy"), InferenceConfig()).predict("toy", pixel)
    assert caught.value.code == "IMAGE_TOO_SMALL"
    assert loader.loaded == []


def test_not_a_number_is_never_reported(loader: Loader) -> None:
    loader.backend.logits = (float("nan"), 0.0)
    with pytest.raises(InferenceError, match="not a number"):
        ModelServer(packages("toy"), InferenceConfig()).predict("toy", IMAGE)
