"""Parts of a plan, judged by one worker of this process: a job of one machine needs no Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from glass_rt.bulk.arrow import pa
from glass_rt.bulk.parts import DONE_SCHEMA, PartSettings, PartWorker


def judge_here(settings: PartSettings, parts: pa.Table) -> Iterator[pa.Table]:
    """Judges parts (`plan.PART_SCHEMA`) in order, and gives a table of DONE_SCHEMA for each as its file is written.

    Raises GlassError where the worker cannot go on, such as without an engine.
    """
    with closing(PartWorker(settings)) as worker:
        for counts in worker.judge(parts):
            yield pa.Table.from_pylist([counts], DONE_SCHEMA)
