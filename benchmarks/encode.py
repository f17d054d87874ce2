"""How fast, and in how much memory, the segmentation of a long series is written.

``python -m benchmarks.encode [--slices 2000]``: a CT series of 512x512 with a body-sized segment on
every slice, and the same with three. Time is that of the object alone (highdicom and the bytes) and
of the whole bundle: report, segmentation, picture, each read again and checked. Memory is the
growth of the process's resident memory over the time, as a multiple of the masks'.
"""

from __future__ import annotations

import argparse
import io
import threading
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import numpy as np
import psutil
from pydicom import Dataset

from dicom_out.model_result import ModelDescription, VolumeResult
from dicom_out.patient import read_identity
from dicom_out.profile import Profile
from dicom_out.results import encode_volume
from dicom_out.seg import encode_segmentation
from dicom_out.series import ResultSeries
from ledger.domain import Code, ModelIdentity, Prediction, Segment
from pacsight.samples import ct_series

SIDE = 512
NOW = datetime.now(UTC)
MODEL = ModelDescription(ModelIdentity("benchmark", "1.0.0", "0" * 64, "Benchmark"), "-", "-")


class Peak:
    """Resident memory of this process, watched from a thread."""

    def __enter__(self) -> Peak:
        self._process, self._done = psutil.Process(), threading.Event()
        self.before = self.most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, self._process.memory_info().rss)


def headers(slices: int) -> list[Dataset]:
    """Return headers of a series: the pixels are made small, because nobody looks at them."""
    made = ct_series(1, slices=slices, rows=16, columns=16)
    for number, ds in enumerate(made):
        del ds.PixelData
        ds.Rows = ds.Columns = SIDE
        ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 0.5
        ds.ImagePositionPatient = [-179.2, -179.2, -0.5 * number]
    return list(made)


def volume(slices: int, segments: int) -> VolumeResult:
    """Return a result with a large region on every slice for each segment."""
    y, x = np.mgrid[:SIDE, :SIDE]
    sources = headers(slices)
    parts = []
    for number in range(segments):
        disc = np.hypot(y - 256, x - 100 - 150 * number) < 70
        mask = np.empty((slices, SIDE, SIDE), bool)
        mask[:] = disc
        code = Code(f"1020000{number}", "SCT", f"Part {number + 1}")
        parts.append(Segment(code.meaning, code, mask, 1.0))
    prediction = Prediction(
        MODEL.identity, tuple(str(ds.SOPInstanceUID) for ds in sources), (), None, 0.0, (),
        tuple(parts),
    )  # fmt: skip
    return VolumeResult(prediction, tuple(sources), np.zeros((slices, SIDE, SIDE), np.uint8))


def measure(name: str, result: VolumeResult, work: Callable[[], int]) -> None:
    slices, segments = len(result.display), len(result.prediction.segments)
    masks = slices * SIDE * SIDE * segments
    with Peak() as peak:
        started = time.perf_counter()
        size = work()
        seconds = time.perf_counter() - started
    print(
        f"| {name} | {segments} | {slices / seconds:.0f} | {seconds:.1f} | "
        f"{(peak.most - peak.before) / masks:.2f} | {size / 1e6:.0f} |",
        flush=True,
    )


def segmentation(result: VolumeResult, profile: Profile) -> int:
    ds = encode_segmentation(
        result, profile, model=MODEL, identity=read_identity(result.sources[0]),
        series=ResultSeries("s", "seg", NOW),
    )  # fmt: skip
    assert ds is not None
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getbuffer().nbytes


def bundle(result: VolumeResult, profile: Profile) -> int:
    written = encode_volume(result, model=MODEL, seed="s", now=NOW, profile=profile)
    return sum(len(item.data) for item in written)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=2000)
    slices = parser.parse_args().slices
    warnings.simplefilter("ignore")  # highdicom on a creator with one name
    segmentation(volume(4, 1), Profile(name="p"))  # load the tables of the standard
    print(f"{slices} slices of {SIDE}x{SIDE}\n")
    print("| what | segments | slices/s | seconds | memory / masks | MB written |")
    print("|---|---|---|---|---|---|")
    for segments in (1, 3):
        result = volume(slices, segments)
        for seg in ("binary", "labelmap"):
            profile = Profile(name=seg, seg=seg)
            measure(f"SEG, {seg}", result, partial(segmentation, result, profile))
        measure("bundle", result, partial(bundle, result, Profile(name="p")))


if __name__ == "__main__":
    main()
