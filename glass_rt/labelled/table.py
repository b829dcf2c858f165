"""A table of labels: CSV with commas, semicolons or tabs, or Parquet, as rows of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from glass_rt.errors import LabelsInvalid, MissingDependency, first_line

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
        text = path.read_text(encoding="utf-8-sig")
        heading = text.partition("\n")[0]
        separator = max(_SEPARATORS, key=heading.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
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
