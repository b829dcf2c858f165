"""What was said of labelled images: how many were decided, how often that was wrong, and for whom it was worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glass_calibrate.intervals import GroupRate, Rate, exact_rate, group_rates


@dataclass(frozen=True)
class Answer:
    """One image: whether it is `fake`, and the label that it got."""

    fake: bool
    label: str


@dataclass(frozen=True)
class Answers:
    """Rates with 95 % exact intervals. `decided`: labelled fake or real; `wrong`: of those, labelled as what it is not.

    `fpr`: of the real images, those labelled fake. `fnr`: of the fakes, those labelled real. Both count every image of
    the class, the undecided too.
    """

    decided: Rate
    wrong: Rate
    fpr: Rate
    fnr: Rate


@dataclass(frozen=True)
class GroupTable:
    """The rates of one error by the groups of one column, the worst first; the intervals hold together at 95 %.

    `error`: `fpr` or `fnr`.
    """

    by: str
    error: str
    rows: tuple[GroupRate, ...]


def count_answers(answers: Sequence[Answer]) -> Answers:
    """The rates of these images."""
    decided = [one for one in answers if one.label in ("fake", "real")]
    wrong = [one for one in decided if (one.label == "fake") != one.fake]
    false_alarms = sum(not one.fake for one in wrong)
    fakes = sum(one.fake for one in answers)
    return Answers(
        decided=exact_rate(len(decided), len(answers)),
        wrong=exact_rate(len(wrong), len(decided)),
        fpr=exact_rate(false_alarms, len(answers) - fakes),
        fnr=exact_rate(len(wrong) - false_alarms, fakes),
    )


def group_tables(
    by: str, groups: Sequence[str | None], answers: Sequence[Answer], *, single: bool = False
) -> tuple[GroupTable, ...]:
    """The tables of both errors; images whose group is None are in none.

    A table of one group is left out, unless `single` is given.
    """
    tables = []
    for error, fake in (("fpr", False), ("fnr", True)):
        counts: dict[str, tuple[int, int]] = {}
        for group, answer in zip(groups, answers, strict=True):
            if group is None or answer.fake != fake:
                continue
            wrong, images = counts.get(group, (0, 0))
            counts[group] = wrong + (answer.label == ("real" if fake else "fake")), images + 1
        if len(counts) > 1 or (counts and single):
            tables.append(GroupTable(by, error, group_rates(counts)))
    return tuple(tables)
