"""Files of the stages: whole or not there, and a full disk is no defect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pacsight.errors import DiskError
from pacsight.stages.context import write_durably

FULL = """
import resource, signal, sys
from pathlib import Path
from pacsight.errors import DiskError
from pacsight.stages.context import write_durably
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_durably(Path(sys.argv[1]), bytes(5000))
except DiskError as error:
    print(error.retryable, error)
"""


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert [item.name for item in path.parent.iterdir()] == ["a.bin"]


def test_disk_that_takes_no_more_is_tried_again_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True A result can't be written")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_can_not_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="make space"):
        write_durably(tmp_path / "file" / "a.bin", b"")
