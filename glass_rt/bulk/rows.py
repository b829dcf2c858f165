"""The rows of a bulk job: one per image, with a fixed schema that Arrow, Parquet and Spark all have types for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glass_rt.bulk.arrow import pa
from glass_rt.version import __version__

_CROP = pa.struct(
    [
        pa.field("left", pa.int32(), nullable=False),
        pa.field("top", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("attention", pa.float64(), nullable=False),
        pa.field("effect", pa.float64()),
    ]
)
# Fields have the meaning of `glass_rt.verdict.Verdict`'s. Of a row either `error_kind` or `label` is null. Times are
# left out: the same image gives the same row, whoever judges it.
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("error_kind", pa.string()),
        pa.field("error", pa.string()),
        pa.field("label", pa.string()),
        pa.field("probability_fake", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("trained", pa.bool_()),
        pa.field("sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("orientation", pa.int32()),
        pa.field("seed", pa.uint64()),
        pa.field("sampling", pa.string()),
        pa.field("stratified", pa.bool_()),
        pa.field("grid", pa.int32()),
        pa.field("trained_crops", pa.int32()),
        pa.field("crops", pa.list_(_CROP)),
        pa.field("probabilities_of_draws", pa.list_(pa.float64())),
        pa.field("logits", pa.list_(pa.float64())),
        pa.field("notices", pa.list_(pa.string())),
        pa.field("bundle_sha256", pa.string(), nullable=False),
        pa.field("weights_sha256", pa.string(), nullable=False),
        pa.field("engine", pa.string(), nullable=False),
        pa.field("architecture", pa.string(), nullable=False),
        pa.field("backbone", pa.string(), nullable=False),
        pa.field("backend", pa.string(), nullable=False),
        pa.field("precision", pa.string(), nullable=False),
        pa.field("runtime", pa.string(), nullable=False),
    ]
)
Row = dict[str, Any]


def row_of(path: str, result: Mapping[str, Any], engine: Mapping[str, str]) -> Row:
    """The row of one image: `path` as the job knows it, the JSON form of its verdict or failure, its engine's."""
    values = {**result, **engine, "engine": engine["name"], "path": path, "runtime": __version__}
    if "error" in result:
        values |= {"error_kind": result["error"]["kind"], "error": result["error"]["message"]}
    elif result["draws"]:
        values["probabilities_of_draws"] = result["draws"]["probabilities_fake"]
    return {name: values.get(name) for name in SCHEMA.names}


def table_of(rows: list[Row]) -> pa.Table:
    """Rows as a table of SCHEMA."""
    return pa.Table.from_pylist(rows, SCHEMA)
