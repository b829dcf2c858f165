"""The share of the busy time that other processes had."""

import pytest
from glass_bench.measure.load_watch import foreign_share


def test_the_foreign_share_of_the_busy_time() -> None:
    assert foreign_share((100, 0), (1100, 0), 5.0) == pytest.approx(0.5)  # 10 s busy, 5 of them ours
    assert foreign_share((0, 0), (400, 100), 5.0) == 0
    assert foreign_share(None, (1, 1), 5.0) is None
