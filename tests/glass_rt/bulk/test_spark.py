"""The example for Spark: its half that works runs without Spark, and all of it where Spark and Java are."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glass_rt.bulk.rows import SCHEMA
from glass_rt.bundle.bundle import Bundle
from tests.glass_rt.bulk.expected import assert_same, inferred

EXAMPLE = Path(__file__).parents[3] / "examples" / "spark_bulk.py"


def test_the_examples_function_maps_arrow_batches_to_rows(bundle: Bundle, photographs: tuple[Path, ...]) -> None:
    paths = [*photographs[:5], Path("/absent.jpg")]
    table = pa.table({"path": [str(path) for path in paths]})
    example = runpy.run_path(str(EXAMPLE))
    judge = example["judge_with"](str(bundle.folder))
    found = pa.Table.from_batches(judge(iter(table.to_batches(max_chunksize=2))), example["row_schema"]())
    assert found.schema.names == SCHEMA.names
    for row, verdict in zip(found.to_pylist(), inferred(bundle, paths), strict=True):
        assert_same(row, verdict)


@pytest.mark.skipif(
    not importlib.util.find_spec("pyspark") or not shutil.which("java"), reason="needs pyspark and Java"
)
def test_the_example_runs_on_spark(bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path) -> None:
    paths = list(photographs[:6])
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)) + "\n")
    done = subprocess.run(
        [sys.executable, EXAMPLE, tmp_path / "list.txt", tmp_path / "out", bundle.folder],
        capture_output=True, text=True, timeout=300,
        env=os.environ
        | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert len(rows) == len(paths)
    for path, verdict in zip(paths, inferred(bundle, paths), strict=True):
        assert_same(rows[str(path)], verdict)
