"""What a run writes down as it goes: one row a step, one row an epoch; TensorBoard where it is asked for."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glass_rt.errors import MissingDependency
from glass_rt.machine.write_whole import write_whole

STEPS, EPOCHS, TENSORBOARD = "steps.csv", "epochs.csv", "tensorboard"
_FLUSHED_EVERY = 20  # rows


class Logs:
    """CSV files in the run's folder, and a TensorBoard writer.

    `step`: rows of later steps are dropped; they are from before a run that was killed had written its checkpoint.
    """

    def __init__(self, folder: Path, step: int, *, tensorboard: bool = False) -> None:
        self._folder = folder
        self._tables: dict[str, _Table] = {}
        for name in (STEPS, EPOCHS):
            _cut(folder / name, step)
        self._board = _board(folder, step) if tensorboard else None

    def write(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds a row, whose `step` is a number; the columns are those of the first."""
        if name not in self._tables:
            self._tables[name] = _Table(self._folder / name, list(row))
        self._tables[name].write(row, flush=row["step"] % _FLUSHED_EVERY == 0)
        if self._board is not None:
            for column, value in row.items():
                if column != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(f"{name.removesuffix('.csv')}/{column}", value, row["step"])

    def flush(self) -> None:
        """Hands all rows to the system: before a checkpoint, whose step they must reach."""
        for table in self._tables.values():
            table.flush()

    def close(self) -> None:
        """Closes the files."""
        for table in self._tables.values():
            table.close()
        if self._board is not None:
            self._board.close()


class _Table:
    def __init__(self, path: Path, columns: list[str]) -> None:
        new = not path.exists() or path.stat().st_size == 0
        self._file = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._columns = columns
        if new:
            self._rows.writerow(columns)

    def write(self, row: Mapping[str, Any], *, flush: bool) -> None:
        self._rows.writerow([row[column] for column in self._columns])
        if flush:
            self.flush()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _cut(path: Path, step: int) -> None:
    """Keeps the heading and the rows up to a step."""
    if not path.is_file():
        return
    heading, *rows = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    columns = heading.split(",")
    if "step" not in columns:  # killed before the heading was written out
        path.unlink()
        return
    place = columns.index("step")
    cells = [row.split(",") for row in rows]  # a loss of power leaves rows that are none
    kept = [row for row in cells if len(row) == len(columns) and row[place].isdecimal() and int(row[place]) <= step]
    write_whole(path, "".join(f"{','.join(row)}\n" for row in (columns, *kept)).encode())


def tensorboard_writer() -> Any:
    """PyTorch's class that writes for TensorBoard. Raises MissingDependency."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependency("tensorboard", "tensorboard", "--tensorboard") from None
    return SummaryWriter


def _board(folder: Path, step: int) -> Any:
    return tensorboard_writer()(str(folder / TENSORBOARD), purge_step=step + 1)
