"""A contender's process: how its workers share the threads."""

import pytest
from glass_bench.measure.contenders import Contender
from glass_bench.measure.worker import threads_each


@pytest.mark.parametrize(("threads", "workers", "each"), [(None, 1, None), (6, 1, 6), (6, 2, 3), (1, 2, 1)])
def test_workers_share_the_threads(threads: int | None, workers: int, each: int | None) -> None:
    assert threads_each(Contender("c", "engine", "bundle", threads=threads, workers=workers)) == each
