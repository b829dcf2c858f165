"""Judges images that lie in a Parquet file: `python judge_parquet.py BUNDLE IMAGES.parquet VERDICTS.parquet`.

IMAGES.parquet has the columns `path` (a name for each image) and, unless the names are paths, `bytes` (the encoded
image).
"""

import sys

import pyarrow.parquet as pq

from glass_rt.bulk.rows import SCHEMA
from glass_rt.bulk.worker import BulkWorker


def main(bundle: str, source: str, target: str) -> None:
    """Streams batches through the worker: memory does not grow with the file."""
    batches = pq.ParquetFile(source).iter_batches(batch_size=64)
    with BulkWorker(bundle) as worker, pq.ParquetWriter(target, SCHEMA) as writer:
        for rows in worker.judge(batches):
            writer.write_batch(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
