"""Mutated files of every format: nothing but ImageError, no more memory or time than allowed, the header's shape."""

import os
import sys

import pytest

from tests.fuzz import campaign
from tests.fuzz.campaign import run
from tests.fuzz.corpus import corpus
from tests.fuzz.mutate import mutated

TRIALS = int(os.environ.get("GLASS_RT_ATTACK_TRIALS", "0")) or 6_000
SECONDS = float("inf") if "GLASS_RT_ATTACK_TRIALS" in os.environ else 40.0  # on a busy machine too
SEED = 606

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")


def test_mutated_files_are_judged_or_refused_within_their_budgets() -> None:
    record = run(SEED, TRIALS, SECONDS)
    print(record.as_json())
    assert record.failures == []
    assert record.trials >= min(TRIALS, 500)
    assert record.share >= 0.3
    for form, count in record.by_format.items():
        assert count < 40 or record.decoded_by_format[form] > count // 10, form


def test_a_trial_is_the_same_file_each_time() -> None:
    samples = corpus()
    files = [mutated(samples, SEED, trial) for trial in range(200)]
    assert files == [mutated(samples, SEED, trial) for trial in range(200)]
    assert len({made.data for made in files}) > 190


def test_broken_promises_are_failures() -> None:
    """The oracle itself: each kind of failure is counted as one."""
    fine = {"trial": 0, "form": "png", "outcome": "ok", "decoded": True, "budget": 1 << 20, "seconds": 0.1, "grown": 0}
    record = campaign.Record(SEED)
    for result in (
        fine,
        {**fine, "outcome": "refused"},
        {**fine, "outcome": "exception"},
        {**fine, "outcome": "shape"},
        {**fine, "grown": 70 << 20},
        {**fine, "seconds": 16.0},
    ):
        record.add(result)
    assert [failure["outcome"] for failure in record.failures] == ["exception", "shape", "memory", "time"]


def test_a_child_that_hangs_or_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "START_SECONDS", 0.05)  # Python itself takes longer
    assert [failure["outcome"] for failure in run(SEED, 1).failures] == ["time"]
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert [failure["outcome"] for failure in run(SEED, 1).failures] == ["died with 1"]
