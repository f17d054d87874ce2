"""One living process per role and name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pacsight.errors import AlreadyRunningError, DataFolderError
from pacsight.exclusive import exclusive

HOLD = """
import sys
from pathlib import Path
from pacsight.exclusive import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "worker-a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunningError, match="worker-a runs already"), exclusive(path):
            pass
        holder.kill()
        holder.wait()
        with exclusive(path):
            pass


def test_folder_that_can_not_be_made_is_one_sentence() -> None:
    with (
        pytest.raises(DataFolderError, match="correct data_dir"),
        exclusive(Path("/proc/x/a.lock")),
    ):
        pass


def test_what_fails_inside_is_not_taken_for_a_held_lock(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), exclusive(tmp_path / "a.lock"):
        raise BlockingIOError
