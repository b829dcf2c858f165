from __future__ import annotations

import pytest

from glass_rt.backends.trt.buckets import MOST_PADDING, buckets_of, plan_runs
from glass_rt.bundle.requirements import Shapes

PROFILES = (Shapes(1, 10, 16), Shapes(1, 64, 64))


def test_buckets_are_what_profiles_are_tuned_for_and_the_powers_of_two_that_those_do_not_take() -> None:
    assert [(bucket.size, bucket.profile) for bucket in buckets_of(PROFILES)] == [
        (1, 0), (2, 0), (4, 0), (10, 0), (16, 0), (32, 1), (64, 1),
    ]  # fmt: skip
    big = [bucket.size for bucket in buckets_of((Shapes(1, 10, 16), Shapes(1, 64, 256)))]
    assert big == [1, 2, 4, 10, 16, 32, 64, 128, 256]


def test_sizes_that_no_profile_takes_are_no_buckets() -> None:
    sizes = [bucket.size for bucket in buckets_of((Shapes(1, 1, 1), Shapes(24, 32, 48)))]
    assert sizes == [1, 32, 48]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [(1, 1)]),
        (7, [(4, 4), (3, 4)]),
        (8, [(8, 10)]),  # a fifth of padding is cheaper than one more size to compile and capture
        (9, [(9, 10)]),  # a tenth of padding is cheaper than a second run
        (33, [(32, 32), (1, 1)]),  # half a batch of padding is not
        (60, [(60, 64)]),
        (65, [(64, 64), (1, 1)]),
        (320, [(64, 64)] * 5),
    ],
)
def test_packs_are_cut_with_little_padding(count: int, expected: list[tuple[int, int]]) -> None:
    assert [(run.rows, run.bucket.size) for run in plan_runs(count, buckets_of(PROFILES))] == expected


@pytest.mark.parametrize("count", range(1, 200))
def test_runs_cover_the_pack_in_order(count: int) -> None:
    runs = plan_runs(count, buckets_of(PROFILES))
    assert [view for run in runs for view in range(run.start, run.start + run.rows)] == list(range(count))
    assert all(1 - run.rows / run.bucket.size <= MOST_PADDING for run in runs)
