"""Rows of verdicts: the same columns wherever they are written."""

import pyarrow as pa
import pytest

from glass_rt.results.rows import row_from_json, row_schema


def test_rows_of_a_job_have_the_same_columns_without_times() -> None:
    job, run = row_schema(of_job=True), row_schema(of_job=False)
    assert job.names == [name for name in run.names if name != "timings_ms"]
    for column in job:
        other = run.field(column.name).type
        if column.name != "crops":  # whose inner fields differ in what may be null
            assert column.type.equals(other), column.name
    assert all(column.nullable for column in run)


@pytest.mark.parametrize("of_job", [True, False])
def test_a_failure_has_its_error_in_columns(of_job: bool) -> None:
    row = row_from_json({"schema": 1, "path": "a.jpg", "error": {"kind": "format", "message": "not an image"}})
    values = pa.Table.from_pylist([row], row_schema(of_job=of_job)).to_pylist()[0]
    said = {name: value for name, value in values.items() if value is not None}
    assert said == {"path": "a.jpg", "error_kind": "format", "error": "not an image"}
    known = row_from_json(
        {"schema": 1, "path": "a.jpg", "sha256": "ab", "error": {"kind": "format", "message": "not an image"}}
    )
    assert pa.Table.from_pylist([known], row_schema(of_job=of_job)).to_pylist()[0]["sha256"] == "ab"
