"""A table of labels: CSV with commas, semicolons or tabs, or Parquet, as rows of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from glass_rt.errors import LabelsInvalid, MissingDependency, first_line
from glass_rt.machine.named_file import read_named_text

PARQUET = ".parquet"
_SEPARATORS = ",;\t"

Row = Mapping[str, str]


def read_table(path: Path) -> list[tuple[str, Row]]:
    """Rows with where each stands, such as `labels.csv, line 2`; columns by their names in lower case.

    CSV is UTF-8, with or without a byte-order mark; its separator is the one that the heading has most of. Raises
    LabelsInvalid for a file that cannot be read, and MissingDependency for Parquet without pyarrow.
    """
    rows = _parquet(path) if path.suffix.lower() == PARQUET else _csv(path)
    return [(where, {_name(name): value for name, value in row.items()}) for where, row in rows]


def _csv(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    try:
        text = read_named_text(path, "utf-8-sig")
        heading = text.partition("\n")[0]
        separator = max(_SEPARATORS, key=heading.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: no UTF-8, or a name that no file can have
        raise LabelsInvalid(f"{path} cannot be read as a CSV of labels: {error}") from None
    for number, row in rows:
        yield f"{path}, line {number}", {name: _text(value) for name, value in row.items() if name is not None}


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingDependency("pyarrow", "parquet", "reading labels from Parquet") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise LabelsInvalid(f"{path} cannot be read as a table of labels: {first_line(error)}") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", {name: _text(value) for name, value in row.items()}


def _name(column: str) -> str:
    return column.strip().lower()


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
