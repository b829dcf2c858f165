"""A verdict, or a failure, as a row: columns that Arrow, Parquet and Spark all have types for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
# Columns that came with schema 2 of the verdict; files and jobs that earlier versions began lack them.
ADDED_COLUMNS = (
    "basis", "decision_id", "tier", "reason", "fake_above", "real_below", "guarantee", "calibrated_probability_fake",
    "prior", "jpeg_quality",
)  # fmt: skip


def row_schema(*, of_job: bool) -> pa.Schema:
    """The columns: the fields of the JSON, some of them spread. Of a row either `label` or `error_kind` is null.

    `of_job`: the rows of a job, where path and engine are known of failures too, and are said to be never null, nor
    are the numbers of a crop. Times are left out of them: the same image gives the same row on every worker.
    """
    import pyarrow as pa  # whose absence the caller has noticed before, and knows what it is needed for

    text, integer, real = pa.string(), pa.int32(), pa.float64()

    def sure(name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, kind, nullable=not of_job)

    place = [sure(name, integer) for name in ("left", "top", "width", "height")]
    crop = pa.struct([*place, sure("attention", real), pa.field("effect", real)])
    times = pa.struct([pa.field(name, real) for name in ("decode", "views", "engine", "aggregate", "total")])
    guarantee = pa.struct(
        [
            *(pa.field(name, real) for name in ("confidence", "fpr", "fnr")),
            *(pa.field(name, pa.int64()) for name in ("images", "above", "fakes", "below")),
        ]
    )
    engine = ("bundle_sha256", "weights_sha256", "engine", "architecture", "backbone", "backend", "precision")
    return pa.schema(
        [
            sure("path", text),
            pa.field("error_kind", text),
            pa.field("error", text),
            pa.field("label", text),
            pa.field("probability_fake", real),
            *(pa.field(name, text) for name in ("basis", "decision_id", "tier", "reason")),
            *(pa.field(name, real) for name in ("threshold", "fake_above", "real_below")),
            pa.field("guarantee", guarantee),
            *(pa.field(name, real) for name in ("calibrated_probability_fake", "prior")),
            pa.field("trained", pa.bool_()),
            pa.field("sha256", text),
            pa.field("width", integer),
            pa.field("height", integer),
            pa.field("format", text),
            pa.field("jpeg_quality", integer),
            pa.field("orientation", integer),
            pa.field("seed", pa.uint64()),
            pa.field("sampling", text),
            pa.field("stratified", pa.bool_()),
            pa.field("grid", integer),
            pa.field("trained_crops", integer),
            pa.field("crops", pa.list_(crop)),
            pa.field("probabilities_of_draws", pa.list_(real)),
            pa.field("logits", pa.list_(real)),
            pa.field("notices", pa.list_(text)),
            *(sure(name, text) for name in engine),
            *([] if of_job else [pa.field("timings_ms", times)]),
            sure("runtime", text),
        ]
    )


def former_schema(schema: pa.Schema) -> pa.Schema:
    """A schema of rows as it was before ADDED_COLUMNS."""
    for name in ADDED_COLUMNS:
        schema = schema.remove(schema.get_field_index(name))
    return schema


def row_from_json(result: Mapping[str, Any]) -> Row:
    """The row of one image, from the JSON form of its verdict or failure; what has no column is to be passed over.

    Verdicts of schema 1, which hold no decision, have no value in its columns.
    """
    if "error" in result:
        named = {"path": result["path"], "sha256": result.get("sha256")}
        return {**named, "error_kind": result["error"]["kind"], "error": result["error"]["message"]}
    draws = result["draws"] and result["draws"]["probabilities_fake"]
    return {
        **result,
        **decision_columns(result),
        **engine_columns(result["engine"]),
        "probabilities_of_draws": draws,
    }


def decision_columns(verdict: Mapping[str, Any]) -> Row:
    """The columns of the decision, from the JSON form of a verdict; of schema 1 there is the threshold alone."""
    decision = verdict.get("decision")
    if decision is None:
        return {"threshold": verdict.get("threshold")}
    thresholds = decision["thresholds"] or {}
    return {
        **{name: decision[name] for name in ("basis", "tier", "reason", "threshold", "guarantee", "prior")},
        "decision_id": decision["id"],
        **{name: thresholds.get(name) for name in ("fake_above", "real_below")},
    }


def engine_columns(engine: Mapping[str, str]) -> Row:
    """The columns of the engine that spoke, from the `engine` object of a verdict."""
    return {**engine, "engine": engine["name"]}
