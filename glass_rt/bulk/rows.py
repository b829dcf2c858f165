"""The rows of a bulk job: one per image, with a fixed schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glass_rt.bulk.arrow import pa
from glass_rt.results.rows import Row, engine_columns, former_schema, row_from_json, row_schema
from glass_rt.version import __version__

__all__ = ["SCHEMA"]

SCHEMA = row_schema(of_job=True)
FORMER_SCHEMA = former_schema(SCHEMA)  # of jobs that an earlier version began, and that go on with it


def row_of(path: str, result: Mapping[str, Any], engine: Mapping[str, str]) -> Row:
    """The row of one image: its path as the job has it, and the JSON of its verdict or failure and of its engine."""
    values = {**row_from_json(result), **engine_columns(engine), "path": path, "runtime": __version__}
    return {name: values.get(name) for name in SCHEMA.names}


def table_of(rows: list[Row], schema: pa.Schema = SCHEMA) -> pa.Table:
    """Rows as a table of SCHEMA, or of FORMER_SCHEMA."""
    return pa.Table.from_pylist(rows, schema)
