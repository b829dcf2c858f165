"""`infer --output`: results appended to a file as they come, so that a run that was cut short can go on.

A line is written whole and handed to the system before the next image is counted: whatever happens to the process,
the file lacks at most the images in flight, and a last line that was cut is dropped on resuming. No result has a line
end within: `text_from_name` writes it as an escape.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from glass_rt.bundle.folder import sha256_of
from glass_rt.errors import GlassError, UsageError
from glass_rt.results.file_names import name_from_text
from glass_rt.results.lines import CSV_COLUMNS, CSV_HEADER, FORMER_CSV_COLUMNS, csv_header, csv_line, json_line
from glass_rt.results.rows_file import LONGEST_ROW, RowsFile
from glass_rt.results.verdict import FORMER_SCHEMA, SCHEMA, Failure, Verdict

_SCHEMAS = (SCHEMA, FORMER_SCHEMA)
_JSON_STARTS = tuple(f'{{"schema": {schema}, "path": '.encode() for schema in _SCHEMAS)
_CSV_STARTS = {csv_header(columns).encode(): columns for columns in (CSV_COLUMNS, FORMER_CSV_COLUMNS)}


class Journal:
    """A file of JSON lines or CSV. When it is resumed it knows the paths that it holds, and what moved.

    It closes `file`, also where it raises UsageError: for a file of other rows.
    """

    def __init__(self, file: RowsFile) -> None:
        self.file = file
        self.failed = 0
        self._csv = file.path.suffix == ".csv"
        self._columns: Sequence[str] = CSV_COLUMNS  # a file that an earlier version began goes on with its own
        self._paths: set[str] = set()
        self._moved: set[str] = set()  # SHA-256 of images whose path is not there any more
        self._piped: set[str] = set()  # SHA-256 of images that had no path
        try:
            whole = self._read()
            if whole < len(file):
                file.cut(whole)
            if self._csv and not whole:
                file.append(CSV_HEADER.encode())
        except BaseException:
            with suppress(GlassError):
                file.close()
            raise

    def holds(self, path: str) -> bool:
        """Whether the file has a result for this path, or for one that is gone and had the same content."""
        if path in self._paths:
            return True
        if not self._moved or not os.path.isfile(path):  # a pipe can be read only once
            return False
        try:
            return sha256_of(Path(path)) in self._moved
        except OSError:
            return False

    def holds_piped(self, data: bytes) -> bool:
        """Whether the file has the verdict of this content, which came from standard input."""
        return bool(self._piped) and hashlib.sha256(data).hexdigest() in self._piped

    def remember(self, written: str | None, sha256: str | None, *, failed: bool) -> None:
        """From now on an image counts as held, whose path was written as `text_from_name` does."""
        self.failed += failed
        if written:
            path = name_from_text(written)
            self._paths.add(path)
            if sha256 and not os.path.exists(path):
                self._moved.add(sha256)
        elif sha256:
            self._piped.add(sha256)

    def add(self, result: Verdict | Failure) -> None:
        """Appends one result.

        Raises GlassError where the disk is full (what was written before stays), and OutputLost.
        """
        self.file.append((csv_line(result, self._columns) if self._csv else json_line(result)).encode())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def _read(self) -> int:
        """Remembers the rows of the file; returns the size of those that are whole. Raises UsageError for others'."""
        whole = 0
        for number, line in enumerate(self.file.lines(), start=1):
            try:
                if not line.endswith(b"\n"):
                    self._check_cut(line, number)
                    break
                if (row := self._row(line, number)) is not None:
                    self.remember(row["path"], row.get("sha256"), failed=bool(row.get("error")))
            except (ValueError, RecursionError, csv.Error) as error:
                raise UsageError(
                    f"output: line {number} of {self.file.path} is not a result of glass-rt infer; nothing was "
                    "changed: take that line out, or choose another name"
                ) from error
            whole += len(line)
        return whole

    def _row(self, line: bytes, number: int) -> dict[str, Any] | None:
        """The row of a line, None for the heading. Raises ValueError or csv.Error."""
        if self._csv and number == 1:
            if line not in _CSV_STARTS:
                raise ValueError("another heading")
            self._columns = _CSV_STARTS[line]
            return None
        text = line.decode()
        if self._csv:
            return dict(zip(self._columns, next(csv.reader([text], strict=True)), strict=True))
        row = json.loads(text)
        if not isinstance(row, dict) or row.get("schema") not in _SCHEMAS:
            raise ValueError("no result")
        if not isinstance(row.get("path", 0), str | None) or not isinstance(row.get("sha256"), str | None):
            raise ValueError("no result")
        return row

    def _check_cut(self, line: bytes, number: int) -> None:
        """Raises ValueError where a last line without its end does not begin like one of ours."""
        if len(line) == LONGEST_ROW:
            raise ValueError("longer than any result")
        starts: Sequence[bytes] = _JSON_STARTS if not self._csv else tuple(_CSV_STARTS) if number == 1 else (b"",)
        written = line.rstrip(b"\0")  # which a loss of power leaves of what never reached the disk
        if not any(start.startswith(written[: len(start)]) for start in starts):
            raise ValueError("another file")
