"""Batch sizes in steps: engines run, and graphs are captured, for a few sizes only, so packs are cut to fit them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from glass_rt.bundle.requirements import Shapes

MOST_PADDING = 0.25  # of a run; beyond, a smaller full run is made first


@dataclass(frozen=True)
class Bucket:
    """A batch size and the optimisation profile that it runs in."""

    size: int
    profile: int


@dataclass(frozen=True)
class BatchRun:
    """Views start..start+rows-1, run as a batch of `bucket.size`; what lies past `rows` is padding."""

    start: int
    rows: int
    bucket: Bucket

    @property
    def rows_of_pack(self) -> slice:
        """Its views in the pack."""
        return slice(self.start, self.start + self.rows)


def buckets_of(profiles: Sequence[Shapes]) -> tuple[Bucket, ...]:
    """Each profile's best and largest size, and powers of two, each in the first profile that takes it.

    A power of two that one of those sizes takes with little padding is left out: every size costs its context, its
    kernels and its graph on both lanes.
    """
    most = profiles[-1].high
    tuned = {size for profile in profiles for size in (profile.best, profile.high)}
    powers = takewhile(lambda size: size <= most, (1 << power for power in range(most.bit_length())))
    sizes = tuned | {power for power in powers if not any(_takes(size, power) for size in tuned)}
    return tuple(
        Bucket(size, next(index for index, profile in enumerate(profiles) if profile.low <= size <= profile.high))
        for size in sorted(sizes)
        if any(profile.low <= size <= profile.high for profile in profiles)
    )


def _takes(size: int, rows: int) -> bool:
    """Whether a run of `size` takes so many rows with little padding."""
    return 0 <= size - rows <= MOST_PADDING * size


def plan_runs(count: int, buckets: Sequence[Bucket]) -> tuple[BatchRun, ...]:
    """Cuts `count` views into runs: full ones of the largest size, then what is left with little padding.

    The same count is always cut alike, so that the same pack gives the same numbers.
    """
    sizes = [bucket.size for bucket in buckets]
    runs, start = [], 0
    while start < count:
        left = count - start
        above = bisect_left(sizes, left)  # the smallest bucket that takes all of it
        if above == len(sizes):
            bucket = buckets[-1]
        elif _takes(sizes[above], left) or above == 0:
            bucket = buckets[above]
        else:
            bucket = buckets[above - 1]
        rows = min(left, bucket.size)
        runs.append(BatchRun(start, rows, bucket))
        start += rows
    return tuple(runs)
