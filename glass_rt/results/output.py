"""The file of `infer --output`, whatever its format."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

from glass_rt.errors import UsageError
from glass_rt.results.journal import Journal
from glass_rt.results.rows_file import RowsFile
from glass_rt.results.verdict import Failure, Verdict

SUFFIXES = (".jsonl", ".csv", ".parquet")


class Output(Protocol):
    """The file of `--output`, whatever its format."""

    @property
    def failed(self) -> int:
        """How many images the file said could not be judged when it was opened."""

    def holds(self, path: str) -> bool:
        """Whether the file has a result for this path, or for one that is gone and had the same content."""

    def holds_piped(self, data: bytes) -> bool:
        """Whether the file has the verdict of this content, which came from standard input."""

    def add(self, result: Verdict | Failure) -> None:
        """Appends one result.

        Raises GlassError where the disk is full (what was written before stays), and OutputLost.
        """

    def __enter__(self) -> Output: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_output(path: Path, *, resume: bool) -> Output:
    """The file of `--output` by its suffix, which no other process can open as an output until this one closes it.

    Raises UsageError where another process is writing it, where it exists already and is not resumed, and where it is
    no regular file.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"output: got {path.name}; its suffix must be one of {', '.join(SUFFIXES)}")
    if path.suffix != ".parquet":
        return Journal(RowsFile(path, resume=resume))
    from glass_rt.results.parquet import ParquetJournal  # imports pyarrow

    return ParquetJournal(path, resume=resume)
