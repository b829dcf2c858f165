"""`infer --output`: results appended to a file as they come, so that a run that was cut short can go on.

A line is written whole and handed to the system before the next image is counted: whatever happens to the process,
the file lacks at most the images in flight, and a last line that was cut is dropped on resuming.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Protocol

from glass_rt.cli.tables import CSV_HEADER, csv_line, json_line
from glass_rt.errors import GlassError, UsageError
from glass_rt.file_names import name_from_text
from glass_rt.verdict import Failure, Verdict

SUFFIXES = (".jsonl", ".csv", ".parquet")


class Output(Protocol):
    """The file of `--output`, whatever its format."""

    def holds(self, path: str) -> bool:
        """Whether the file has a result for this path, or for one that is gone and had the same content."""

    def add(self, result: Verdict | Failure) -> None:
        """Appends one result. Raises GlassError where the disk is full; what was written before stays."""

    def __enter__(self) -> Output: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_output(path: Path, *, resume: bool) -> Output:
    """The file of `--output` by its suffix. Raises UsageError where it exists already and is not resumed."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"output: got {path.name}; its suffix must be one of {', '.join(SUFFIXES)}")
    if path.suffix != ".parquet":
        return Journal(path, resume=resume)
    from glass_rt.cli.parquet import ParquetJournal  # imports pyarrow

    return ParquetJournal(path, resume=resume)


class Journal:
    """A file of JSON lines or CSV. When it is resumed it knows the paths that it holds, and what moved."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        if path.exists() and not resume:
            raise UsageError(f"output: {path} exists already; --resume goes on with it, another name starts afresh")
        self._csv = path.suffix == ".csv"
        self._paths: set[str] = set()
        self._moved: set[str] = set()  # SHA-256 of images whose path is not there any more
        try:
            whole = _without_cut_line(path) if path.exists() else 0
            self._file = path.open("a", encoding="utf-8", newline="")
            self._file.truncate(whole)
            if whole:
                self._read(path)
            elif self._csv:
                self._write(CSV_HEADER)
        except OSError as error:
            raise GlassError(f"output: {path} cannot be written: {error.strerror}") from error

    def holds(self, path: str) -> bool:
        """Whether the file has a result for this path, or for one that is gone and had the same content."""
        if path in self._paths:
            return True
        if not self._moved:
            return False
        try:
            return hashlib.sha256(Path(path).read_bytes()).hexdigest() in self._moved
        except OSError:
            return False

    def remember(self, written: str | None, sha256: str | None) -> None:
        """From now on an image counts as held, whose path was written as `text_from_name` does."""
        if written:
            path = name_from_text(written)
            self._paths.add(path)
            if sha256 and not Path(path).exists():
                self._moved.add(sha256)

    def add(self, result: Verdict | Failure) -> None:
        """Appends one result. Raises GlassError where the disk is full; what was written before stays."""
        self._write(csv_line(result) if self._csv else json_line(result))

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, line: str) -> None:
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise GlassError(
                f"output: {self._file.name} cannot be written: {error.strerror}; --resume goes on"
            ) from error

    def _read(self, path: Path) -> None:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file) if self._csv else map(json.loads, file)
            for number, row in enumerate(rows, start=1):
                if not isinstance(row, dict) or "path" not in row:
                    raise UsageError(f"output: line {number} of {path} is not a result of glass-rt infer")
                self.remember(row["path"], row.get("sha256"))


def _without_cut_line(path: Path) -> int:
    """Size of the file up to its last line end."""
    data = path.read_bytes()
    return data.rfind(b"\n") + 1
