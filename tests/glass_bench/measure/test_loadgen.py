"""LoadGen drives a system that we know all about; failures are counted by us."""

from collections.abc import Iterator, Sequence

import pytest
from glass_bench.errors import BenchError
from glass_bench.measure import loadgen
from glass_bench.measure.systems import Description, ImageResult

SUMMARY = """
Scenario : Server
Completed samples per second    : 104.10
  Early stopping satisfied: NO
Scheduled samples per second : 104.63
Mean latency (ns)               : 10176785
99.00 percentile latency (ns)   : 28506961
target_latency (ns): 20000000
"""


class Scripted:
    """Answers with a probability per path, or with what is planted under it."""

    def __init__(self, description: Description, planted: dict[str, ImageResult | Exception] | None = None) -> None:
        self.description = description
        self.planted = planted or {}
        self.asked: list[str] = []

    def judge(self, path: str, crops: int | None = None) -> ImageResult:
        self.asked.append(path)
        result = self.planted.get(path, ImageResult(0.5))
        if isinstance(result, Exception):
            raise result
        return result

    def judge_many(self, paths: Sequence[str]) -> Iterator[ImageResult]:
        for path in paths:
            yield self.judge(path)

    def check(self) -> str | None:
        return None

    def close(self) -> None:
        pass


PATHS = [f"{number}.png" for number in range(7)]


def test_single_stream_asks_for_every_image_once(description: Description) -> None:
    system = Scripted(description)
    run = loadgen.single_stream(system, PATHS, seed=3, expected_ms=1)
    assert sorted(system.asked) == PATHS
    assert [PATHS[query.image] for query in run.queries] == system.asked
    assert not run.void
    assert run.summary["p50_ms"] > 0


def test_the_seed_decides_the_order(description: Description) -> None:
    systems = [Scripted(description) for _ in range(3)]
    for system, seed in zip(systems, (3, 3, 4), strict=True):
        loadgen.single_stream(system, PATHS, seed=seed, expected_ms=1)
    assert systems[0].asked == systems[1].asked != systems[2].asked


def test_offline_shares_the_samples_among_workers(description: Description) -> None:
    systems = [Scripted(description), Scripted(description)]
    run = loadgen.offline(systems, PATHS, seed=3, samples=21)
    assert [len(system.asked) for system in systems] == [11, 10]
    assert run.summary["samples_per_second"] > 0
    assert len(run.queries) == 21


def test_server_answers_every_arrival(description: Description) -> None:
    system = Scripted(description)
    run = loadgen.server([system], PATHS, seed=3, rate=2000, queries=50, bound_ms=100, percentile=99)
    assert len(system.asked) == len(run.queries) >= 50
    assert run.summary["p99_ms"] > 0


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (ImageResult(None, error="corrupt: cut short"), "corrupt: cut short"),
        (ImageResult(float("nan")), "the probability is nan"),
        (ImageResult(1.5), "the probability is 1.5"),
        (ImageResult(None), "the probability is None"),
    ],
)
def test_a_failed_query_voids_the_run_though_loadgen_counts_it_as_done(
    description: Description, planted: ImageResult | Exception, reason: str
) -> None:
    system = Scripted(description, {PATHS[2]: planted})
    for run in (
        loadgen.single_stream(system, PATHS, seed=3, expected_ms=1),
        loadgen.offline([system], PATHS, seed=3, samples=7),
    ):
        assert run.void
        assert reason in run.failures
        assert len(run.queries) == 7


def test_a_summary_is_read_in_milliseconds() -> None:
    figures, early_stopping = loadgen.parse_summary(SUMMARY)
    assert figures == {
        "completed_per_second": 104.10,
        "scheduled_per_second": 104.63,
        "mean_ms": 10.176785,
        "p99_ms": 28.506961,
    }
    assert not early_stopping


def test_a_summary_without_figures_is_an_error() -> None:
    with pytest.raises(BenchError, match="version"):
        loadgen.parse_summary("nothing here")
