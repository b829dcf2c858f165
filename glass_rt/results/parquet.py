"""`infer --output FILE.parquet`: one row per image, nothing lost on the way.

A Parquet file is readable once its end is written, so nothing can be appended to it. Results go, as they come, to the
journal `FILE.parquet.jsonl` beside it; when the run ends they become rows of the Parquet file, and the journal goes.
What a crash leaves behind is complete at every moment: `--resume` goes on with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from glass_rt.errors import GlassError, MissingDependency, OutputLost, UsageError, first_line
from glass_rt.machine.one_writer import names_file
from glass_rt.results.journal import Journal
from glass_rt.results.rows import Row, former_schema, row_from_json, row_schema
from glass_rt.results.rows_file import RowsFile, check_new, check_regular, free_name
from glass_rt.results.verdict import Failure, Verdict

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise MissingDependency("pyarrow", "parquet", "--output FILE.parquet") from None

ROWS_AT_ONCE = 4096  # held in memory while they are converted, and the rows of a row group
SCHEMA = row_schema(of_job=False)
FORMER_SCHEMA = former_schema(SCHEMA)  # of files that earlier versions wrote: resumed, they get the columns they lack


class ParquetJournal:
    """The Parquet file of `--output`, with the interface of `Journal`.

    Files beside it, in the order of their life: `.jsonl`, the journal, whose lock is that of them all; `.partial`, the
    new Parquet file while it is written; `.whole`, the same once it is complete. From then on the journal's rows are in
    it, and the journal counts no more.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self._lines, self._partial, self._whole = (
            path.with_name(path.name + suffix) for suffix in (".jsonl", ".partial", ".whole")
        )
        if not resume:
            check_new(self._lines, path, self._whole)
        check_schema(path)
        self._before: RowsBefore | None = None
        rows = RowsFile(self._lines, resume=resume)
        try:
            if not resume:
                check_new(path, self._whole)  # another run has ended meanwhile
            with _named_errors(path):
                self._settle(rows)
            self._journal = Journal(rows)
            self._before = RowsBefore(path) if check_regular(path) else None
            for batch in self._rows_before(("path", "sha256", "error")):
                for row in batch.to_pylist():
                    self._journal.remember(row["path"], row["sha256"], failed=row["error"] is not None)
        except BaseException:
            if self._before is not None:
                self._before.close()
            with suppress(GlassError, OSError):
                rows.close() if len(rows) else rows.remove()
            raise

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
        """Appends one result to the journal. Raises GlassError where the disk is full, and OutputLost."""
        self._journal.add(result)

    def __enter__(self) -> ParquetJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        rows = self._journal.file
        try:
            if kind is None:  # else the journal stays for --resume
                rows.check()
                self._convert(rows)
        except (OSError, pa.ArrowException) as problem:
            raise GlassError(
                f"output: {self._path} cannot be written: {first_line(problem)}; all results are in {self._lines}, "
                "and --resume tries again"
            ) from problem
        finally:
            if self._before is not None:
                self._before.close()
            rows.close()

    def _convert(self, rows: RowsFile) -> None:
        """Writes the new Parquet file and removes the journal. Raises OutputLost where the former file is gone."""
        lost = self._loss()
        if lost is None and self._before is not None and not len(rows):  # nothing new
            rows.remove()
            return
        try:
            with self._partial.open("wb") as file:
                with pq.ParquetWriter(file, SCHEMA) as writer:
                    for batch in self._rows_before():
                        writer.write_batch(_with_all_columns(batch))
                    for some in _batches(rows):
                        writer.write_batch(pa.RecordBatch.from_pylist(some, SCHEMA))
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                self._partial.unlink()
            raise
        if lost is None:
            self._partial.replace(self._whole)
            self._settle(rows)
            rows.remove()
            return
        rescued = free_name(self._path)
        self._partial.replace(rescued)
        rows.remove()
        raise OutputLost(f"output: {self._path} was {lost} while this run lasted; all rows are in {rescued}")

    def _settle(self, rows: RowsFile) -> None:
        """Completes what a crash may have interrupted after the new file was complete."""
        if self._whole.exists():
            rows.cut(0)
            self._whole.replace(self._path)
        self._partial.unlink(missing_ok=True)

    def _loss(self) -> str | None:
        """What happened to the Parquet file since it was opened; None where nothing did."""
        if self._before is not None:
            return self._before.loss()
        return "made by another program" if os.path.lexists(self._path) else None

    def _rows_before(self, columns: tuple[str, ...] | None = None) -> Iterator[Any]:
        """Record batches of the Parquet file as it stood when it was opened."""
        return iter(()) if self._before is None else self._before.batches(columns)


class RowsBefore:
    """The rows of a Parquet file, which stay readable after it is deleted or replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _named_errors(path):
            self._file = path.open("rb")
            self._status = os.fstat(self._file.fileno())

    def batches(self, columns: tuple[str, ...] | None) -> Iterator[Any]:
        """Record batches of these columns. Raises UsageError where the file is damaged."""
        with _named_errors(self._path):
            self._file.seek(0)
            yield from pq.ParquetFile(self._file).iter_batches(ROWS_AT_ONCE, columns=columns)

    def loss(self) -> str | None:
        """What happened to the file, None where it is as it was. Raises OutputLost where its rows are gone with it."""
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise OutputLost(
                f"output: {self._path} was changed by another program while this run lasted; the rows of this run are "
                f"in {self._path}.jsonl"
            )
        if names_file(self._path, now):
            return None
        return "replaced by another file" if os.path.lexists(self._path) else "deleted"

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def check_schema(path: Path) -> None:
    """Raises UsageError where there is a file, and it is not one of ours."""
    if check_regular(path) is None:
        return
    with _named_errors(path):
        schema = pq.read_schema(path)
    if not (schema.equals(SCHEMA) or schema.equals(FORMER_SCHEMA)):
        raise UsageError(f"output: {path} is not a result of this version of glass-rt infer")


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Says which file the system, or Arrow, cannot read or write."""
    try:
        yield
    except pa.ArrowException as error:
        raise UsageError(f"output: {path} is no Parquet file: {first_line(error)}") from error
    except OSError as error:  # Arrow's too, for files that are damaged
        reason = error.strerror or first_line(error)
        raise GlassError(f"output: {path} cannot be read or written: {reason}") from error


def _with_all_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of SCHEMA, with nulls in the columns that a file of an earlier version lacks."""
    held = set(batch.schema.names)
    columns = [batch.column(field.name) if field.name in held else pa.nulls(len(batch), field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _batches(rows: RowsFile) -> Iterator[list[Row]]:
    lines = rows.lines()
    while some := list(islice(lines, ROWS_AT_ONCE)):
        yield [row_from_json(json.loads(line)) for line in some]
