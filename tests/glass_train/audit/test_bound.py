"""AUC and its lower bound equal scikit-learn's, and cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from glass_train.audit.bound import auc, lower_bound
from sklearn.metrics import roc_auc_score


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_auc_is_that_of_scikit_learn_with_ties_too(levels: int) -> None:
    draw = np.random.Generator(np.random.PCG64(levels))
    fake, scores = draw.random(200) < 0.4, draw.integers(0, levels, 200) / levels
    assert auc(fake, scores) == pytest.approx(roc_auc_score(fake, scores), abs=1e-12)


def test_the_bound_lies_below_the_true_value_about_nineteen_times_in_twenty() -> None:
    draw = np.random.Generator(np.random.PCG64(5))
    fake, below = np.arange(100) % 2 == 0, 0
    for trial in range(60):
        scores = draw.normal(size=100) + fake * 0.7416  # true AUC 0.70
        below += lower_bound(fake, scores, np.arange(100), trial) < 0.7
    assert 52 <= below <= 60  # 57 expected; outside by chance once in 70 times, and the seed is fixed


def test_repeated_rows_of_a_group_make_the_bound_no_tighter() -> None:
    draw = np.random.Generator(np.random.PCG64(5))
    fake, scores = np.arange(60) % 2 == 0, draw.normal(size=60) + (np.arange(60) % 2 == 0)
    once = lower_bound(fake, scores, np.arange(60), 1)
    tenfold = [np.repeat(array, 10) for array in (fake, scores, np.arange(60))]
    assert lower_bound(tenfold[0], tenfold[1], tenfold[2], 1) == pytest.approx(once, abs=1e-12)
    assert lower_bound(tenfold[0], tenfold[1], np.arange(600), 1) > once + 0.05
