"""How much fits into the time: rounds of repeats, and how many images a round can have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter


def rounds(budget_s: float, repeats: int, *, least: int = 1) -> Iterator[int]:
    """Numbers of rounds, 0.. : `repeats` of them, fewer where the next would not end within the budget."""
    start = perf_counter()
    longest = 0.0
    for number in range(repeats):
        began = perf_counter()
        if number >= least and began - start + longest > budget_s:
            return
        yield number
        longest = max(longest, perf_counter() - began)


def rotated(items: Sequence[str], number: int) -> list[str]:
    """The items in another order each round: each goes first in its turn, and the way round changes every time."""
    step = -1 if number % 2 else 1
    return [items[(number + step * place) % len(items)] for place in range(len(items))]


def images_that_fit(budget_s: float, repeats: int, per_image_s: float, available: int, *, least: int = 4) -> int:
    """How many images a round can have so that `repeats` rounds fit; at least `least`, if there are as many."""
    if per_image_s <= 0:
        return available
    return max(min(least, available), min(available, int(budget_s / repeats / per_image_s)))
