"""How much fits into the time, and whose turn it is."""

import pytest
from glass_bench.measure.plan import images_that_fit, rotated, rounds


def test_rounds_end_at_the_repeats_or_at_the_budget() -> None:
    assert list(rounds(1e9, 3)) == [0, 1, 2]
    assert list(rounds(0, 5)) == [0]
    assert list(rounds(0, 5, least=2)) == [0, 1]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_contender_comes_first_as_often_as_every_other(count: int) -> None:
    names = list("abcd"[:count])
    orders = [rotated(names, number) for number in range(2 * count)]
    assert all(sorted(order) == names for order in orders)
    first = [order[0] for order in orders]
    assert sorted(first[:count]) == sorted(first[count:]) == names


@pytest.mark.parametrize("count", [3, 4, 8])
def test_none_always_follows_the_same_neighbour(count: int) -> None:
    names = list("abcdefgh"[:count])
    orders = [rotated(names, number) for number in range(5)]
    before = {(order[place], order[place - 1]) for order in orders for place in range(1, count)}
    assert all(len({other for name, other in before if name == one}) > 1 for one in names)


def test_as_many_images_as_fit() -> None:
    assert images_that_fit(60, 3, 1.0, 100) == 20
    assert images_that_fit(60, 3, 1.0, 8) == 8
    assert images_that_fit(1, 3, 10.0, 100) == 4  # fewer would not be the user's images any more
