"""What a record says: figures computed from its raw measurements, the same for report, comparison and `--fail-if`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from glass_bench.measure.record import ContenderEntry, Record, RunEntry
from glass_bench.measure.systems import STAGES
from glass_bench.report.statistics import Distribution, Line, Ratio, Repeated, distribution, fit_line, ratio, repeated

REFERENCE_ENGINE_MS = 50.0  # the harness's overhead is given as a share of an engine this fast


@dataclass(frozen=True)
class StageMeans:
    """Mean milliseconds per image of every stage, of the whole call, and the share that no stage accounts for."""

    stages_ms: Mapping[str, float]
    total_ms: float
    unaccounted: float


@dataclass(frozen=True)
class CropFit:
    """Lines through the crop sweep: milliseconds and megabytes per crop; memory None where it was not taken."""

    time: Line
    memory: Line | None


def valid_runs(entry: ContenderEntry, scenario: str) -> list[RunEntry]:
    """The runs of one scenario in which no query failed."""
    return [run for run in entry.runs if run.scenario == scenario and not run.void]


def failures(entry: ContenderEntry) -> int:
    """Queries that failed, over all runs."""
    probes = sum(probe.failures for probe in entry.server.probes) if entry.server else 0
    return sum(run.failures for run in entry.runs) + probes


def latency(entry: ContenderEntry, percentile: str = "p50_ms") -> Repeated | None:
    """LoadGen's percentile of a SingleStream run, over the repeats."""
    values = [run.loadgen[percentile] for run in valid_runs(entry, "single_stream") if percentile in run.loadgen]
    return repeated(values) if values else None


def mean_latency(entry: ContenderEntry) -> Repeated | None:
    """LoadGen's mean latency: over images of different sizes the figure that adds up to a day's work."""
    return latency(entry, "mean_ms")


def pooled_latency(entry: ContenderEntry) -> Distribution | None:
    """All queries of all SingleStream runs together, as timed inside the contender."""
    values = [value for run in valid_runs(entry, "single_stream") for value in run.inside_ms]
    return distribution(values) if values else None


def throughput(entry: ContenderEntry) -> Repeated | None:
    """Images per second, LoadGen's Offline figure, over the repeats."""
    values = [run.loadgen["samples_per_second"] for run in valid_runs(entry, "offline")]
    return repeated(values) if values else None


def image_latencies(entry: ContenderEntry) -> dict[int, float]:
    """Median milliseconds per image over the repeats, by the image's number."""
    found: dict[int, list[float]] = {}
    for run in valid_runs(entry, "single_stream"):
        for image, value in zip(run.images, run.inside_ms, strict=True):
            found.setdefault(image, []).append(value)
    return {image: float(np.median(values)) for image, values in found.items()}


def cost_ratio(entry: ContenderEntry, baseline: ContenderEntry) -> Ratio | None:
    """Time of `entry` over that of `baseline` on the images both judged: per repeat, the sums over these images."""
    shared = set(image_latencies(entry)) & set(image_latencies(baseline))
    ours, theirs = _sums(entry, shared), _sums(baseline, shared)
    return ratio(repeated(ours), repeated(theirs)) if ours and theirs else None


def _sums(entry: ContenderEntry, images: set[int]) -> list[float]:
    return [
        sum(value for image, value in zip(run.images, run.inside_ms, strict=True) if image in images)
        for run in valid_runs(entry, "single_stream")
        if images
    ]


def stage_times(entry: ContenderEntry) -> StageMeans | None:
    """Where the time of a SingleStream query goes."""
    runs = [run for run in valid_runs(entry, "single_stream") if run.stages_ms]
    if not runs:
        return None
    rows = [stages for run in runs for stages in run.stages_ms]
    means = {stage: float(np.mean([row.get(stage, 0.0) for row in rows])) for stage in STAGES}
    total = float(np.mean([value for run in runs for value in run.inside_ms]))
    return StageMeans(means, total, 1 - sum(means.values()) / total)


def harness_overhead_ms(entry: ContenderEntry) -> float | None:
    """What LoadGen's latency holds beyond the time inside the contender: median over runs of the means' difference."""
    runs = valid_runs(entry, "single_stream")
    return float(np.median([run.loadgen["mean_ms"] - np.mean(run.inside_ms) for run in runs])) if runs else None


def overhead_percent(entry: ContenderEntry) -> float | None:
    """`harness_overhead_ms` in per cent of an engine of 50 ms."""
    overhead = harness_overhead_ms(entry)
    return None if overhead is None else 100 * overhead / REFERENCE_ENGINE_MS


def crop_fit(entry: ContenderEntry) -> CropFit | None:
    """The straight lines through a crop sweep of at least three points."""
    points = entry.crop_sweep
    if len(points) < 3:
        return None
    time = fit_line([point.x for point in points], [float(np.median(point.ms)) for point in points])
    measured = [(point.x, point.peak_mb) for point in points if point.peak_mb is not None]
    memory = fit_line([x for x, _ in measured], [y for _, y in measured]) if len(measured) >= 3 else None
    return CropFit(time, memory)


def baseline_of(record: Record, entry: ContenderEntry) -> ContenderEntry | None:
    """The baseline to compare with: of the same backbone and kind if there is one, else the first."""
    candidates = [other for other in record.contenders if _is_baseline(other) and latency(other) is not None]
    backbone = entry.description.backbone if entry.description else None
    same = [other for other in candidates if other.description and other.description.backbone == backbone]
    return next(iter(same or candidates), None)


def _is_baseline(entry: ContenderEntry) -> bool:
    return entry.role == "baseline" and entry.variant_of is None


def _pooled(name: str) -> Callable[[Record, ContenderEntry], float | None]:
    def value(_record: Record, entry: ContenderEntry) -> float | None:
        pooled = pooled_latency(entry)
        return None if pooled is None else float(getattr(pooled, name))

    return value


def _cost(record: Record, entry: ContenderEntry) -> float | None:
    baseline = baseline_of(record, entry)
    found = cost_ratio(entry, baseline) if baseline else None
    return found.value if found else None


def _throughput(_record: Record, entry: ContenderEntry) -> float | None:
    found = throughput(entry)
    return found.median if found else None


def _spread(_record: Record, entry: ContenderEntry) -> float | None:
    found = mean_latency(entry)
    return None if found is None or found.spread is None else 100 * found.spread


def _unaccounted(_record: Record, entry: ContenderEntry) -> float | None:
    found = stage_times(entry)
    return 100 * abs(found.unaccounted) if found else None


# What `--fail-if` can be about: figures of one contender.
FIGURES: Mapping[str, Callable[[Record, ContenderEntry], float | None]] = {
    "mean_ms": _pooled("mean"),
    "p50_ms": _pooled("p50"),
    "p90_ms": _pooled("p90"),
    "p95_ms": _pooled("p95"),
    "p99_ms": _pooled("p99"),
    "images_per_second": _throughput,
    "peak_mb": lambda _record, entry: entry.peak_mb,
    "open_s": lambda _record, entry: entry.open_s,
    "failures": lambda _record, entry: float(failures(entry)),
    "cost_ratio": _cost,
    "spread_percent": _spread,
    "overhead_percent": lambda _record, entry: overhead_percent(entry),
    "unaccounted_percent": _unaccounted,
}
