"""Which `--fail-if` conditions a record meets."""

from __future__ import annotations

from collections.abc import Iterable

from glass_bench.measure.record import ContenderEntry, Record
from glass_bench.report.conditions import Condition
from glass_bench.report.figures import FIGURES
from glass_rt.errors import UsageError


def conditions_met(record: Record, conditions: Iterable[Condition]) -> list[str]:
    """One line per contender and condition that is met; a figure that was not measured counts as met.

    A limit that silently passes because nothing was measured would be worse than none.
    """
    lines = []
    for condition in conditions:
        for entry in _entries_for(record, condition):
            value = FIGURES[condition.figure](record, entry)
            if value is None:
                lines.append(f"{entry.name}: {condition.figure} was not measured ({condition.text})")
            elif condition.met(value):
                lines.append(f"{entry.name}: {condition.figure} is {value:.4g} ({condition.text})")
    return lines


def _entries_for(record: Record, condition: Condition) -> list[ContenderEntry]:
    if condition.contender is None:
        return [entry for entry in record.contenders if entry.role == "engine" and entry.variant_of is None]
    named = [entry for entry in record.contenders if entry.name == condition.contender]
    if not named:
        names = ", ".join(entry.name for entry in record.contenders)
        raise UsageError(f"fail-if: no contender is named {condition.contender!r}; there are {names}")
    return named
