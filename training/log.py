"""A TensorBoard log of a training: loss, learning rate and validation figures of every epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from training.errors import LogFolderError


class Log:
    """Writes scalars that ``tensorboard --logdir`` draws; from :func:`open_log`.

    Each epoch is on disk when :meth:`epoch` returns. A resumed training writes into the same
    folder, and epochs that it repeats hide what was logged of them before.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._writer: Any = None

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log one epoch; values that are no numbers are left out.

        Parameters
        ----------
        number
            From 1 on.
        values
            By name, as TensorBoard shows it; ``/`` groups names, such as ``validation/auc``.
        """
        writer = self._opened(number)
        for name, value in values.items():
            if math.isfinite(value):
                writer.add_scalar(name, value, number)
        writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self, first: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

            self._writer = SummaryWriter(str(self._path), purge_step=first)
            if self._text:
                lines = "\n".join(f"    {line}" for line in self._text.splitlines())
                self._writer.add_text("recipe", lines, first)
        return self._writer


def open_log(path: Path, text: str = "") -> Log:
    """Open the log in a folder, which is made if need be.

    Parameters
    ----------
    path
        A folder of its own for each training.
    text
        Shown beside the curves: the recipe.

    Raises
    ------
    LogFolderError
        The folder can't be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LogFolderError(
            f"The log folder {path} can't be written ({error.strerror}); choose another."
        ) from error
    return Log(path, text)
