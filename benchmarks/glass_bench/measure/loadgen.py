"""MLCommons LoadGen as the driver of one system: SingleStream, Offline, Server.

LoadGen decides which image is judged when, and measures the latencies; it counts every completed query as a success, so
failures are counted here and void the run. The figures are LoadGen-measured; they are no MLPerf results (those have
rules on models, data, durations and review that nothing here follows).
"""

from __future__ import annotations

import queue
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from glass_bench.errors import BenchError
from glass_bench.measure.systems import ImageResult, System
from glass_rt.errors import MissingDependency

_NAMES = {
    "Min latency (ns)": "min_ms",
    "Max latency (ns)": "max_ms",
    "Mean latency (ns)": "mean_ms",
    "50.00 percentile latency (ns)": "p50_ms",
    "90.00 percentile latency (ns)": "p90_ms",
    "95.00 percentile latency (ns)": "p95_ms",
    "97.00 percentile latency (ns)": "p97_ms",
    "99.00 percentile latency (ns)": "p99_ms",
    "99.90 percentile latency (ns)": "p99_9_ms",
}
_RATES = {
    "Samples per second": "samples_per_second",
    "Completed samples per second": "completed_per_second",
    "Scheduled samples per second": "scheduled_per_second",
}


@dataclass(frozen=True)
class Query:
    """One sample's way through the system: which image, how long inside it, and the result."""

    image: int
    inside_ms: float
    result: ImageResult


@dataclass(frozen=True)
class LoadgenRun:
    """One LoadGen run: its own summary figures, and every query as the system saw it.

    `failures` counts queries without a result; a run with any is void, though LoadGen counts them as done.
    """

    scenario: str
    summary: dict[str, float]
    early_stopping: bool
    queries: tuple[Query, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What was wrong with the queries that failed."""
        return tuple(text for query in self.queries if (text := query.result.complaint) is not None)

    @property
    def void(self) -> bool:
        """Whether the figures mean nothing."""
        return bool(self.failures) or not self.queries


def single_stream(system: System, paths: Sequence[str], seed: int, expected_ms: float) -> LoadgenRun:
    """Every image once, in an order that depends on the seed alone, each when the one before is complete."""

    def settings(lg: Any, values: Any) -> None:
        values.scenario = lg.TestScenario.SingleStream
        values.performance_issue_unique = True
        values.min_query_count = values.max_query_count = len(paths)
        values.single_stream_expected_latency_ns = max(1, round(expected_ms * 1e6))

    return _drive("single_stream", paths, settings, seed, _SingleStreamSut(system, paths))


def offline(systems: Sequence[System], paths: Sequence[str], seed: int, samples: int) -> LoadgenRun:
    """All samples at once; `systems` share them. Throughput is the figure."""

    def settings(lg: Any, values: Any) -> None:
        values.scenario = lg.TestScenario.Offline
        values.min_query_count = samples
        values.offline_expected_qps = 1e-3  # above the true rate LoadGen would add samples of its own to fill the time

    return _drive("offline", paths, settings, seed, _OfflineSut(systems, paths))


def server(
    systems: Sequence[System],
    paths: Sequence[str],
    seed: int,
    *,
    rate: float,
    queries: int,
    bound_ms: float,
    percentile: float,
) -> LoadgenRun:
    """Poisson arrivals at `rate` per second; latencies count from the scheduled arrival, waiting included.

    Each system judges one image at a time; `glass-rt serve` would put those that wait into one batch.
    """

    def settings(lg: Any, values: Any) -> None:
        values.scenario = lg.TestScenario.Server
        values.min_query_count = queries
        values.server_target_qps = rate
        values.server_target_latency_ns = round(bound_ms * 1e6)
        values.server_target_latency_percentile = percentile / 100

    return _drive("server", paths, settings, seed, _ServerSut(systems, paths))


class _Sut:
    """A system under test, as LoadGen sees it. Its callbacks may not raise, so every exception is caught here."""

    def __init__(self, systems: Sequence[System], paths: Sequence[str]) -> None:
        self.systems, self.paths = systems, paths
        self.queries: list[Query] = []
        self.complete: Callable[[Any], None] = lambda _sample: None

    def issue(self, samples: Sequence[Any]) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Waits for what is still under way."""

    def judge(self, system: System, sample: Any) -> None:
        start = perf_counter()
        result = _result_of(lambda: system.judge(self.paths[sample.index]))
        inside_ms = (perf_counter() - start) * 1e3
        self.complete(sample)
        self.queries.append(Query(sample.index, inside_ms, result))


class _SingleStreamSut(_Sut):
    """SingleStream: judges in LoadGen's own thread."""

    def __init__(self, system: System, paths: Sequence[str]) -> None:
        super().__init__([system], paths)

    def issue(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            self.judge(self.systems[0], sample)


class _OfflineSut(_Sut):
    """Offline: hands each system an equal share of the samples as one stream."""

    def __init__(self, systems: Sequence[System], paths: Sequence[str]) -> None:
        super().__init__(systems, paths)
        self._threads: list[threading.Thread] = []

    def issue(self, samples: Sequence[Any]) -> None:
        count = len(self.systems)
        for number, system in enumerate(self.systems):
            share = [(sample.id, sample.index) for sample in samples[number::count]]
            thread = threading.Thread(target=self._work, args=(system, share), name=f"offline-{number}")
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self, system: System, share: list[tuple[int, int]]) -> None:
        results = system.judge_many([self.paths[index] for _, index in share])
        start = perf_counter()
        for number, index in share:
            result = _result_of(lambda: next(results))
            now = perf_counter()
            self.complete(_Sample(number, index))
            self.queries.append(Query(index, (now - start) * 1e3, result))
            start = now


class _ServerSut(_Sut):
    """Server: keeps arrivals in a queue that each system takes from, one at a time."""

    def __init__(self, systems: Sequence[System], paths: Sequence[str]) -> None:
        super().__init__(systems, paths)
        self._waiting: queue.SimpleQueue[_Sample | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, args=(system,)) for system in systems]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            self._waiting.put(_Sample(sample.id, sample.index))

    def finish(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, system: System) -> None:
        while (sample := self._waiting.get()) is not None:
            self.judge(system, sample)


@dataclass(frozen=True)
class _Sample:
    """LoadGen's sample, copied: its own lives no longer than the call that issues it."""

    id: int
    index: int


def _result_of(judge: Callable[[], ImageResult]) -> ImageResult:
    try:
        return judge()
    except StopIteration:
        return ImageResult(None, error="the system gave fewer results than it was asked for")
    except Exception as error:  # an exception of a contender is its failure, not the harness's
        return ImageResult(None, error=f"{type(error).__name__}: {error}")


def _drive(
    scenario: str, paths: Sequence[str], configure: Callable[[Any, Any], None], seed: int, sut: _Sut
) -> LoadgenRun:
    lg = load_loadgen()
    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = seed
    configure(lg, settings)
    sut.complete = lambda sample: lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])
    with tempfile.TemporaryDirectory(prefix="glass-bench-") as folder:
        logs = lg.LogSettings()
        logs.enable_trace = False
        logs.log_output.outdir = folder
        system = lg.ConstructSUT(sut.issue, lambda: None)
        library = lg.ConstructQSL(len(paths), len(paths), lambda _samples: None, lambda _samples: None)
        try:
            lg.StartTestWithLogSettings(system, library, settings, logs)
        finally:
            sut.finish()
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        text = Path(folder, "mlperf_log_summary.txt").read_text(encoding="utf-8")
    summary, early_stopping = parse_summary(text)
    return LoadgenRun(scenario, summary, early_stopping, tuple(sut.queries))


def parse_summary(text: str) -> tuple[dict[str, float], bool]:
    """LoadGen's summary file: figures by our names (times in milliseconds), and whether early stopping was satisfied.

    Early stopping is LoadGen's rule for how many queries a percentile needs; `no` says that the run was too short for
    the percentile to be more than an estimate.
    """
    figures: dict[str, float] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key = key.strip()
        if key in _NAMES:
            figures[_NAMES[key]] = float(value) / 1e6
        elif key in _RATES:
            figures[_RATES[key]] = float(value)
    if not figures:
        raise BenchError("LoadGen wrote a summary without figures; its version is not one that this harness knows")
    return figures, re.search(r"Early stopping satisfied:\s*Yes", text, re.IGNORECASE) is not None


def load_loadgen() -> Any:
    """LoadGen's Python module; raises MissingDependency."""
    try:
        import mlperf_loadgen
    except ImportError:
        raise MissingDependency("mlcommons-loadgen", "bench", "driving the scenarios") from None
    return mlperf_loadgen
