"""Which arrival rate a system can hold: a search over runs that either keep the bound or do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """One rate that was tried; `latency_ms` is the percentile that the bound is on."""

    rate: float
    latency_ms: float
    held: bool


@dataclass(frozen=True)
class RateFound:
    """The highest rate that held, None where not even the lowest tried did, and every probe in its order."""

    rate: float | None
    probes: tuple[Probe, ...]


def find_rate(probe: Callable[[float], Probe], start: float, *, resolution: float = 0.05, most: int = 8) -> RateFound:
    """Brackets the highest rate that holds by steps of 1.5, then halves the bracket in ratio.

    Ends when the bracket is narrower than `resolution`, or after `most` probes. One run per rate: near the edge the
    outcome is a matter of luck, which is why all probes are kept.
    """
    probes: list[Probe] = []
    low: float | None = None
    high: float | None = None
    rate = start
    while len(probes) < most:
        outcome = probe(rate)
        probes.append(outcome)
        if outcome.held:
            low = rate
        else:
            high = rate
        if low is not None and high is not None:
            if high / low <= 1 + resolution:
                break
            rate = (low * high) ** 0.5
        else:
            rate = rate * 1.5 if outcome.held else rate / 1.5
    return RateFound(low, tuple(probes))
