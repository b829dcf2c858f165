"""Figures of a load: how many responses, how late, and whether each was the right one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from glass_bench.report.statistics import distribution
from glass_bench.serving.load import LOST, Exchange
from glass_bench.serving.no_op import TAIL

TOLERANCE = 1e-5  # of fp32, between batches of different sizes
REFUSED = 429
_NOT_COMPARED = ("path", "timings_ms")  # not a matter of the image

ResponseCheck: TypeAlias = Callable[[int, Any], bool]


@dataclass(frozen=True)
class LoadFigures:
    """One load. Times in milliseconds are those of accepted requests, from when each was due to its whole response.

    `wrong`: responses with another verdict than the image has alone, or another status than 200 and 429. `lost`:
    requests without a response. `per_second`: accepted requests over the time until the last of them had its response.
    """

    requests: int
    accepted: int
    refused: int
    wrong: int
    lost: int
    statuses: dict[str, int]
    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def figures_of(exchanges: Sequence[Exchange], seconds: float, check: ResponseCheck) -> LoadFigures:
    """The figures of a load of `seconds`."""
    accepted = [exchange for exchange in exchanges if exchange.status == 200]
    statuses = Counter(exchange.status for exchange in exchanges)
    times = distribution([1e3 * exchange.took_s for exchange in accepted])
    ended = max(seconds, *(exchange.due_s + exchange.took_s for exchange in accepted))
    return LoadFigures(
        requests=len(exchanges),
        accepted=len(accepted),
        refused=statuses[REFUSED],
        wrong=sum(1 for exchange in exchanges if not _right(exchange, check)),
        lost=statuses[LOST],
        statuses={str(status): count for status, count in sorted(statuses.items())},
        per_second=len(accepted) / ended,
        p50_ms=times.p50,
        p90_ms=times.p90,
        p99_ms=times.p99,
        max_ms=times.maximum,
    )


class ResponseChecker:
    """Whether a response is the verdict that the image gets alone: all of it, floats within the fp32 tolerance."""

    def __init__(self, expected: Sequence[dict[str, Any]]) -> None:
        self._expected = [_stripped(json.loads(json.dumps(verdict))) for verdict in expected]

    def __call__(self, image: int, verdict: Any) -> bool:
        """Whether `verdict` is that of the image with this number."""
        return isinstance(verdict, dict) and same(_stripped(verdict), self._expected[image])


def no_op_check(bodies: Sequence[Path]) -> ResponseCheck:
    """Whether a response of the server that judges nothing belongs to the body that was sent."""
    ends = [(len(data), data[-TAIL:].hex()) for data in (path.read_bytes() for path in bodies)]
    return lambda image, verdict: (verdict["width"], verdict["sha256"]) == ends[image]


def same(got: Any, expected: Any) -> bool:
    """Equal JSON, floats within the tolerance."""
    if isinstance(expected, float) and isinstance(got, (int, float)):
        return math.isclose(got, expected, rel_tol=0, abs_tol=TOLERANCE)
    if isinstance(expected, dict) and isinstance(got, dict):
        return got.keys() == expected.keys() and all(same(got[key], value) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(got, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    return bool(got == expected)


def _stripped(verdict: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in verdict.items() if key not in _NOT_COMPARED}


def _right(exchange: Exchange, check: ResponseCheck) -> bool:
    if exchange.status != 200:
        return exchange.status in (REFUSED, LOST)  # the lost are counted apart
    return check(exchange.image, json.loads(exchange.body))
