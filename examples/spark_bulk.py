"""Verdicts with Spark instead of Ray: `spark-submit spark_bulk.py LIST.txt OUTPUT ENGINE`, a path or URI per line.

Every executor needs glass-rt (`pip install 'glass-rt[cpu]' pyarrow`) and the bundle at the same path.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any


def row_schema() -> Any:
    """The schema of the rows; `seed`, 0..2^64-1, is a decimal, for Spark has no unsigned integers."""
    import pyarrow as pa

    from glass_rt.bulk.rows import SCHEMA

    return SCHEMA.set(SCHEMA.get_field_index("seed"), pa.field("seed", pa.decimal128(20)))


def judge_with(engine: str) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """A function for `mapInArrow`: Arrow batches with a column `path` (and `bytes`) to batches of rows."""

    def judge(batches: Iterator[Any]) -> Iterator[Any]:
        from glass_rt.bulk.worker import BulkWorker  # on the executor

        with BulkWorker(engine, threads=1) as worker:  # one engine per task: a thread for each core that Spark has
            for rows in worker.judge(batches):
                yield rows.cast(row_schema())

    return judge


if __name__ == "__main__":
    from pyspark.sql import SparkSession
    from pyspark.sql.pandas.types import from_arrow_schema

    source, target, engine = sys.argv[1:]
    spark = SparkSession.builder.appName("glass-rt").getOrCreate()
    paths = spark.read.text(source).withColumnRenamed("value", "path")
    paths.mapInArrow(judge_with(engine), from_arrow_schema(row_schema())).write.parquet(target)
