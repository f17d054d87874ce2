"""Durable C-STORE intake against dcmtk's storescp and Orthanc, interleaved in one run.

    python -m benchmarks.intake                    # a table on stdout; some minutes
    python -m benchmarks.intake --quick            # one round of fewer objects
    python -m benchmarks.intake --tls              # what TLS costs here, and storescp
    python -m benchmarks.intake --out intake.md

Senders are dcmtk's storescu on this machine, TCP_NODELAY=1 for all of dcmtk. Before each run the
disk is synced; after each run every object is counted, and for Pacsight the sha256 of every data
set and its ledger row are compared with what was sent. Only ratios within one run count: single
figures differ by up to a factor of two from hour to hour on a shared machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    generate_uid,
)
from sqlalchemy import select

from ledger.database import migrate, open_database, reading
from ledger.tables import ReceivedObject
from scp.spool import open_object
from tests.peers.certificates import Authority

ASSOCIATIONS = (1, 4, 16)
AE_TITLE = "PACSIGHT"
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
PDU = "131072"  # the longest that dcmtk knows


# -- what is sent


def make_slices(folder: Path, count: int) -> dict[str, str]:
    """Write CT slices of 512 x 512, 16 bit; return sha256 of each data set by SOP Instance UID."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 4096, (512, 512), dtype=np.uint16)
    study, series = generate_uid(), generate_uid()
    digests = {}
    for number in range(count):
        ds = _image(CTImageStorage, study, series, number)
        ds.PixelData = np.roll(pixels, number, axis=1).tobytes()
        path = folder / f"{number:04d}.dcm"
        dcmwrite(path, ds, enforce_file_format=True)
        digests[str(ds.SOPInstanceUID)] = _data_set_digest(path.read_bytes())
    return digests


def make_large_object(path: Path, size: int) -> None:
    """Write a multi-frame object whose Pixel Data has `size` bytes of zeros (a sparse file)."""
    frames = size // (512 * 512 * 2)
    ds = _image(
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid(), generate_uid(), 1
    )
    ds.NumberOfFrames = frames
    dcmwrite(path, ds, enforce_file_format=True)
    with path.open("ab") as file:
        # (7FE0,0010) OW in Explicit VR Little Endian, PS3.5 section 7.1.2
        length = frames * 512 * 512 * 2
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little"))
        file.truncate(file.tell() + length)


def _image(sop_class: str, study: str, series: str, number: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientID, ds.PatientName, ds.Modality = "BENCH", "Bench^Mark", "CT"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20260101", "120000", "1"
    ds.SeriesNumber, ds.InstanceNumber = 1, number + 1
    ds.Rows = ds.Columns = 512
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _data_set_digest(part10: bytes) -> str:
    return hashlib.sha256(part10[144 + int.from_bytes(part10[140:144], "little") :]).hexdigest()


def send(port: int, groups: Sequence[Sequence[Path]], tls: Sequence[str] = ()) -> float:
    """Run one storescu per group, all at once; return the seconds until all have ended."""
    command = ["storescu", *tls, "-pdu", PDU, "-aec", AE_TITLE, "127.0.0.1", str(port)]
    start = time.perf_counter()
    senders = [subprocess.Popen([*command, *map(str, group)], env=ENVIRONMENT) for group in groups]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - start
    if any(codes):
        raise RuntimeError(f"storescu ended with {codes}")
    return seconds


# -- who receives


@dataclass
class Receiver:
    """A receiver with empty storage in `folder`."""

    folder: Path
    authority: Authority
    name = ""
    durable = ""
    speaks_tls = False

    @cached_property
    def tls(self) -> list[str]:
        """Options of dcmtk's programs for TLS with certificates on both sides; or none.

        Their default profile is the non-downgrading one of BCP 195.
        """
        if not self.speaks_tls:
            return []
        certificate, key = self.authority.issue()
        return ["+tls", str(key), str(certificate), "+cf", str(self.authority.file)]

    def command(self, port: int) -> list[str]:
        raise NotImplementedError

    def verify(self, digests: dict[str, str]) -> None:
        """Raise unless everything arrived."""
        raise NotImplementedError

    def start(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.folder.mkdir(parents=True)
        self.process = subprocess.Popen(
            self.command(port), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 30
        echo = ["echoscu", *self.tls, "-aec", AE_TITLE, "127.0.0.1", str(port)]
        while subprocess.run(echo, env=ENVIRONMENT, capture_output=True).returncode:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} did not start")
            time.sleep(0.1)
        return port

    def peak_rss_mib(self) -> float:
        """Peak resident memory of the main process, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        shutil.rmtree(self.folder)


class Pacsight(Receiver):
    name = "Pacsight"
    durable = "data synced and ledger committed"

    def command(self, port: int) -> list[str]:
        engine = open_database(f"sqlite:///{self.folder / 'ledger.sqlite'}")
        migrate(engine)
        engine.dispose()
        scp: dict[str, object] = {"ae_title": AE_TITLE, "host": "127.0.0.1", "port": port}
        if self.speaks_tls:
            certificate, key = map(str, self.authority.issue())
            authorities = str(self.authority.file)
            scp["tls"] = {"certificate": certificate, "key": key, "authorities": authorities}
        settings = self.folder / "pacsight.yaml"
        settings.write_text(json.dumps({"data_dir": str(self.folder), "scp": scp}))
        return [sys.executable, "-m", "pacsight", "--config", str(settings), "scp"]

    def verify(self, digests: dict[str, str]) -> None:
        engine = open_database(f"sqlite:///{self.folder / 'ledger.sqlite'}")
        with reading(engine) as session:
            rows = session.scalars(select(ReceivedObject)).all()
        found = {}
        for row in rows:
            with open_object(self.folder / "spool", row.segment, row.offset, row.size) as file:
                found[row.sop_instance_uid] = _data_set_digest(file.read())
        engine.dispose()
        if found != digests or len(rows) != len(digests):
            raise RuntimeError(f"Pacsight holds {len(found)} of {len(digests)} objects intact")


class Storescp(Receiver):
    name = "dcmtk storescp --fork"
    durable = "no"

    def command(self, port: int) -> list[str]:
        folder = str(self.folder)
        return ["storescp", *self.tls, "--fork", "-pdu", PDU, "-od", folder, str(port)]

    def verify(self, digests: dict[str, str]) -> None:
        found = sum(1 for path in self.folder.iterdir() if path.name.startswith("CT"))
        if found != len(digests):
            raise RuntimeError(f"storescp holds {found} of {len(digests)} objects")


class Orthanc(Receiver):
    name = "Orthanc"
    durable = "its default"

    def command(self, port: int) -> list[str]:
        settings = {
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "index"),
            "Plugins": [],
            "HttpServerEnabled": False,
            "DicomAet": AE_TITLE,
            "DicomPort": port,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        return [shutil.which("Orthanc") or "/usr/sbin/Orthanc", str(path)]

    def verify(self, digests: dict[str, str]) -> None:
        # a .dcm and a .json attachment each; both are files without extension in Orthanc's storage
        sizes = [
            path.stat().st_size for path in (self.folder / "storage").rglob("*") if path.is_file()
        ]
        found = sum(size > 512 * 512 * 2 for size in sizes)
        if found != len(digests):
            raise RuntimeError(f"Orthanc holds {found} of {len(digests)} objects")


class PacsightTls(Pacsight):
    name = "Pacsight, TLS"
    speaks_tls = True


class StorescpTls(Storescp):
    name = "dcmtk storescp --fork, TLS"
    speaks_tls = True


Kinds: TypeAlias = tuple[type[Receiver], ...]
PLAIN: Kinds = (Pacsight, Storescp, Orthanc)
TLS: Kinds = (Pacsight, PacsightTls, Storescp, StorescpTls)
RATIOS: Sequence[tuple[type[Receiver], type[Receiver]]] = (
    (Pacsight, Storescp),
    (Pacsight, Orthanc),
    (PacsightTls, Pacsight),
    (StorescpTls, Storescp),
    (PacsightTls, StorescpTls),
)


# -- measuring


@dataclass
class Measured:
    rates: dict[tuple[str, int], list[float]]
    peaks: dict[tuple[str, str], float]


def measure(folder: Path, receivers: Kinds, count: int, rounds: int, large_bytes: int) -> Measured:
    authority = Authority(folder / "authority")
    slices = folder / "slices"
    slices.mkdir()
    digests = make_slices(slices, count)
    paths = sorted(slices.iterdir())
    large = folder / "large.dcm"
    make_large_object(large, large_bytes)
    assert dcmread(large, stop_before_pixels=True).Rows == 512
    result = Measured({}, {})
    for round_number in range(rounds):
        for n in ASSOCIATIONS:
            groups = [paths[start::n] for start in range(n)]
            for offset in range(len(receivers)):
                kind = receivers[(round_number + offset) % len(receivers)]
                receiver = kind(folder / "receiver", authority)
                port = receiver.start()
                os.sync()
                seconds = send(port, groups, receiver.tls)
                receiver.verify(digests)
                result.rates.setdefault((kind.name, n), []).append(count / seconds)
                _keep_peak(result, kind.name, f"{n} associations", receiver)
                receiver.stop()
                print(
                    f"round {round_number + 1}, {n:2d} associations, {kind.name}: "
                    f"{count / seconds:.0f} objects/s",
                    file=sys.stderr,
                )
    for kind in receivers:
        if issubclass(kind, Storescp):
            continue
        receiver = kind(folder / "receiver", authority)
        port = receiver.start()
        send(port, [[large]], receiver.tls)
        _keep_peak(result, kind.name, "large", receiver)
        receiver.stop()
    return result


def _keep_peak(result: Measured, name: str, case: str, receiver: Receiver) -> None:
    if not isinstance(receiver, Storescp):  # its memory is in its children
        known = result.peaks.get((name, case), 0.0)
        result.peaks[name, case] = max(known, receiver.peak_rss_mib())


def table(result: Measured, receivers: Kinds, count: int, rounds: int, large_bytes: int) -> str:
    """Return the Markdown table."""

    def cell(name: str, n: int) -> str:
        rates = result.rates[name, n]
        spread = f" [{min(rates):.0f}-{max(rates):.0f}]" if rounds > 1 else ""
        return f"{statistics.median(rates):.0f}{spread}"

    def ratio(own: str, other: str, n: int) -> float:
        # of the runs of the same round, so that a slow minute counts for both
        pairs = zip(result.rates[own, n], result.rates[other, n], strict=True)
        return statistics.median(own / other for own, other in pairs)

    lines = [
        f"{count} CT slices of 512 x 512, 16 bit; objects/s, median of {rounds} interleaved "
        f"rounds; {os.cpu_count()} cores shared with the senders, {platform.python_version()}.",
        "",
        "| receiver | durable before Success | "
        + " | ".join(f"{n} assoc." for n in ASSOCIATIONS)
        + f" | peak RSS at 16 | peak RSS, {large_bytes / 1e9:.1f} GB object |",
        "|---" * (4 + len(ASSOCIATIONS)) + "|",
    ]
    for kind in receivers:
        peaks = [result.peaks.get((kind.name, case)) for case in ("16 associations", "large")]
        lines.append(
            f"| {kind.name} | {kind.durable} | "
            + " | ".join(cell(kind.name, n) for n in ASSOCIATIONS)
            + " | "
            + " | ".join("-" if peak is None else f"{peak:.0f} MiB" for peak in peaks)
            + " |"
        )
    for one, other in RATIOS:
        if one in receivers and other in receivers:
            ratios = " | ".join(f"{ratio(one.name, other.name, n):.2f}x" for n in ASSOCIATIONS)
            lines.append(f"| {one.name} / {other.name} | | {ratios} | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of 160 objects")
    parser.add_argument("--tls", action="store_true", help="plain and TLS, without Orthanc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=500, help="objects per run")
    parser.add_argument("--out", type=Path, help="write the table here too")
    parser.add_argument("--folder", type=Path, help="where to work; needs about 3 GB")
    arguments = parser.parse_args()
    count, rounds = (160, 1) if arguments.quick else (arguments.count, arguments.rounds)
    receivers = TLS if arguments.tls else PLAIN
    large_bytes = 1 << 28 if arguments.quick else 1 << 30
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = measure(Path(folder), receivers, count, rounds, large_bytes)
    text = table(result, receivers, count, rounds, large_bytes)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
