"""What a server has judged since it started, as Triton counts it: requests by outcome, and where their time went."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glass_rt.results.verdict import Failure, Verdict

_NS_PER_MS = 1_000_000
REQUEST_PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


@dataclass
class Duration:
    """How often something was done, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: float) -> None:
        """Counts one more."""
        self.count += 1
        self.ns += max(0, int(ns))

    def to_json(self) -> dict[str, int]:
        """The object of Triton's statistics."""
        return {"count": self.count, "ns": self.ns}


@dataclass
class Statistics:
    """The counters of one server, over every protocol and every bundle that it has served.

    Of a request that succeeded, `compute_input` is decoding and views, `compute_infer` the engine, `compute_output` the
    head and what follows, each summed over its images; `queue` is the rest of the time that its slowest image took. A
    request has failed where one of its images has no verdict. From any thread.
    """

    images: int = 0
    runs: int = 0  # of the engine, the canaries' among them
    last_ms: int = 0  # since 1970, when the latest request ended
    parts: dict[str, Duration] = field(default_factory=lambda: {name: Duration() for name in REQUEST_PARTS})
    batches: dict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))  # by number of images
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request_done(self, results: Sequence[Verdict | Failure] | None, seconds: float) -> None:
        """Counts a request to judge images that took so long; `results` is None where it has none."""
        verdicts = [result for result in results or () if isinstance(result, Verdict)]
        with self._lock:
            self.last_ms = time.time_ns() // _NS_PER_MS
            self.images += len(verdicts)
            if results is None or len(verdicts) < len(results):
                self.parts["fail"].add(seconds * 1e9)
                return
            self.parts["success"].add(seconds * 1e9)
            spent = [verdict.timings_ms for verdict in verdicts]
            longest = max((t.decode + t.views + t.engine + t.aggregate for t in spent), default=0.0)
            self.parts["queue"].add(seconds * 1e9 - longest * _NS_PER_MS)
            self.parts["compute_input"].add(sum(t.decode + t.views for t in spent) * _NS_PER_MS)
            self.parts["compute_infer"].add(sum(t.engine for t in spent) * _NS_PER_MS)
            self.parts["compute_output"].add(sum(t.aggregate for t in spent) * _NS_PER_MS)

    def run_done(self, images: int, seconds: float) -> None:
        """Counts a run of the engine on so many images."""
        with self._lock:
            self.runs += 1
            self.batches[images].add(seconds * 1e9)

    def to_json(self) -> dict[str, Any]:
        """The fields of Triton's `ModelStatistics` but for name and version."""
        with self._lock:
            return {
                "last_inference": self.last_ms,
                "inference_count": self.images,
                "execution_count": self.runs,
                "inference_stats": {name: part.to_json() for name, part in self.parts.items()},
                "batch_stats": [
                    {"batch_size": images, "compute_infer": self.batches[images].to_json()}
                    for images in sorted(self.batches)
                ],
            }
