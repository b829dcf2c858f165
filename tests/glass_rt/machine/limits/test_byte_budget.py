from __future__ import annotations

import pytest

from glass_rt.machine.limits.byte_budget import ByteBudget


@pytest.mark.parametrize(("held", "asked"), [(0, 0), (4, 1)])
def test_the_room_is_asked_for_where_something_else_is_held_and_once(held: int, asked: int) -> None:
    """The caller, who must not hold more than there is, asks by itself where it is told that nobody did."""
    budget, questions = ByteBudget(), []

    def room() -> int:
        questions.append(1)
        return 10

    if held:
        with budget.hold(held, 10), budget.hold(5, 10, room) as alone:
            assert not alone
    else:
        with budget.hold(5, 10, room) as alone:
            assert alone
    assert len(questions) == asked
