"""Repeated timings: warm-up, then repeats, then median and range. The clock stops only after the device has."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from glass_rt.backends.cuda.gpu import GpuDriver


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of some repeats, all in the unit that the figure's name says."""

    median: float
    low: float
    high: float
    repeats: int


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value, with four significant digits."""
    median, low, high = (float(f"{value:.4g}") for value in (statistics.median(values), min(values), max(values)))
    return Spread(median, low, high, len(values))


def host_ms(work: Callable[[], Any], repeats: int, warm_up: int = 1) -> Spread:
    """Milliseconds of `work`, which must wait for the device itself."""
    for _ in range(warm_up):
        work()
    return spread([_timed_ms(work) for _ in range(repeats)])


def _timed_ms(work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return (perf_counter() - start) * 1e3


def event_ms(gpu: GpuDriver, stream: int, work: Callable[[], Any], repeats: int, warm_up: int = 2) -> Spread:
    """Milliseconds of what `work` puts on the stream, by the device's clock. Inside `with gpu.current():`."""
    for _ in range(warm_up):
        work()
    begin, end = gpu.create_event(timed=True), gpu.create_event(timed=True)
    times = []
    for _ in range(repeats):
        gpu.record(begin, stream)
        work()
        gpu.record(end, stream)
        gpu.synchronize_event(end)
        times.append(gpu.elapsed_ms(begin, end))
    for event in (begin, end):
        gpu.destroy_event(event)
    return spread(times)


def torch_ms(work: Callable[[], Any], repeats: int, warm_up: int = 3) -> Spread:
    """Milliseconds of what `work` puts on torch's current stream; by the host's clock where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        return host_ms(work, repeats, warm_up)
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return spread(times)


def rate_per_s(work: Callable[[int], Any], threads: int, seconds: float, least: int = 1) -> float:
    """How often per second `threads` threads together get through `work(thread)`, over about `seconds`.

    Every thread does it at least `least` times, once before the clock starts. The first error of a thread is raised.
    """
    ready, counts, errors = threading.Barrier(threads + 1), [0] * threads, list[BaseException]()
    starts, ends = [0.0] * threads, [0.0] * threads

    def loop(thread: int) -> None:
        try:
            work(thread)
        except BaseException as error:
            errors.append(error)
        ready.wait()
        starts[thread] = perf_counter()
        try:
            while not errors and (counts[thread] < least or perf_counter() - starts[thread] < seconds):
                work(thread)
                counts[thread] += 1
        except BaseException as error:
            errors.append(error)
        ends[thread] = perf_counter()

    running = [threading.Thread(target=loop, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
    return float(f"{sum(counts) / (max(ends) - min(starts)):.4g}")


def gb_per_s(nbytes: float, milliseconds: float) -> float:
    """10^9 bytes per second."""
    return float(f"{nbytes / milliseconds / 1e6:.4g}") if milliseconds else float("inf")


def tflop_per_s(flops: float, milliseconds: float) -> float:
    """10^12 operations per second."""
    return float(f"{flops / milliseconds / 1e9:.4g}") if milliseconds else float("inf")
