"""`infer --output FILE.parquet`: one row per image, nothing lost on the way.

A Parquet file is readable once its end is written, so nothing can be appended to it. Results go, as they come, to the
journal `FILE.parquet.jsonl` beside it; when the run ends they become rows of the Parquet file, and the journal goes.
What a crash leaves behind is complete at every moment: `--resume` goes on with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from glass_rt.errors import GlassError, MissingDependency, UsageError, first_line
from glass_rt.results.journal import Journal
from glass_rt.results.rows import Row, row_from_json, row_schema
from glass_rt.results.verdict import Failure, Verdict

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise MissingDependency("pyarrow", "parquet", "--output FILE.parquet") from None

ROWS_AT_ONCE = 4096  # held in memory while they are converted, and the rows of a row group
SCHEMA = row_schema(of_job=False)


class ParquetJournal:
    """The Parquet file of `--output`, with the interface of `Journal`.

    Files beside it, in the order of their life: `.jsonl`, the journal; `.partial`, the new Parquet file while it is
    written; `.whole`, the same once it is complete. From then on the journal's rows are in it, and the journal counts
    no more.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self._lines, self._partial, self._whole = (
            path.with_name(path.name + suffix) for suffix in (".jsonl", ".partial", ".whole")
        )
        left = [each for each in (path, self._lines, self._whole) if each.exists()]
        if left and not resume:
            raise UsageError(f"output: {left[0]} exists already; --resume goes on with it, another name starts afresh")
        self._settle()
        self._check_rows_before()
        self._journal = Journal(self._lines, resume=True)
        for batch in self._rows_before(("path", "sha256", "error")):
            for row in batch.to_pylist():
                self._journal.remember(row["path"], row["sha256"], failed=row["error"] is not None)

    @property
    def failed(self) -> int:
        """How many images the file and its journal said could not be judged when they were opened."""
        return self._journal.failed

    def holds(self, path: str) -> bool:
        """Whether there is a result for this path, or for one that is gone and had the same content."""
        return self._journal.holds(path)

    def holds_piped(self, data: bytes) -> bool:
        """Whether there is the verdict of this content, which came from standard input."""
        return self._journal.holds_piped(data)

    def add(self, result: Verdict | Failure) -> None:
        """Appends one result to the journal. Raises GlassError where the disk is full."""
        self._journal.add(result)

    def __enter__(self) -> ParquetJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.__exit__(kind, error, trace)
        if kind is not None:
            return  # the journal stays for --resume
        try:
            self._convert()
        except (OSError, pa.ArrowException) as problem:
            raise GlassError(
                f"output: {self._path} cannot be written: {first_line(problem)}; all results are in {self._lines}, "
                "and --resume tries again"
            ) from problem

    def _convert(self) -> None:
        if self._path.exists() and self._lines.stat().st_size == 0:  # nothing new
            self._lines.unlink()
            return
        try:
            with self._partial.open("wb") as file:
                with pq.ParquetWriter(file, SCHEMA) as writer:
                    for batch in self._rows_before():
                        writer.write_batch(batch)
                    for rows in _batches(self._lines):
                        writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                self._partial.unlink()
            raise
        self._partial.replace(self._whole)
        self._settle()

    def _settle(self) -> None:
        """Completes what a crash may have interrupted after the new file was complete."""
        if self._whole.exists():
            self._lines.unlink(missing_ok=True)
            self._whole.replace(self._path)
        self._partial.unlink(missing_ok=True)

    def _check_rows_before(self) -> None:
        """Raises UsageError where the Parquet file is not one of ours."""
        if not self._path.exists():
            return
        try:
            schema = pq.read_schema(self._path)
        except pa.ArrowInvalid as error:
            raise UsageError(f"output: {self._path} is no Parquet file: {first_line(error)}") from error
        if not schema.equals(SCHEMA):
            raise UsageError(f"output: {self._path} is not a result of this version of glass-rt infer")

    def _rows_before(self, columns: tuple[str, ...] | None = None) -> Iterator[Any]:
        """Record batches of the Parquet file as it stands."""
        if self._path.exists():
            with pq.ParquetFile(self._path) as file:
                yield from file.iter_batches(ROWS_AT_ONCE, columns=columns)


def _batches(journal: Path) -> Iterator[list[Row]]:
    with journal.open(encoding="utf-8") as file:
        while lines := list(islice(file, ROWS_AT_ONCE)):
            yield [row_from_json(json.loads(line)) for line in lines]
