"""The search for the rate that a system holds, without a clock."""

import pytest
from glass_bench.measure.rate_search import Probe, find_rate


@pytest.mark.parametrize(("capacity", "start"), [(100.0, 10.0), (100.0, 400.0), (7.3, 7.0)])
def test_the_search_ends_just_below_what_is_held(capacity: float, start: float) -> None:
    found = find_rate(lambda rate: Probe(rate, 0.0, rate <= capacity), start, most=20)
    assert found.rate is not None
    assert capacity / 1.05 <= found.rate <= capacity


def test_a_search_in_vain_says_so() -> None:
    found = find_rate(lambda rate: Probe(rate, 99.0, False), 10.0, most=4)
    assert (found.rate, len(found.probes)) == (None, 4)


def test_the_search_keeps_every_probe_and_its_limit() -> None:
    found = find_rate(lambda rate: Probe(rate, 1.0, True), 1.0, most=5)
    assert [probe.rate for probe in found.probes] == [1, 1.5, 2.25, 3.375, 5.0625]
