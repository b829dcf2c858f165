"""What the figures of a step must be. A rule stands for one figure, or for one of every part, kind or batch size."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """`holds` says whether a figure is right, `says` what it must be; `wrong` is a figure that is not right."""

    says: str
    holds: Callable[[Any], bool]
    wrong: Any


@dataclass(frozen=True)
class Check:
    """A rule for every figure at `path`: the name of a part, then keys, either with `*` for any text.

    There must be at least one such figure, unless `optional` or where the part was left out.
    """

    path: tuple[str, ...]
    rule: Rule
    optional: bool = False


@dataclass(frozen=True)
class Outcome:
    """`passed`, `failed` or `left out`, with the reasons."""

    state: str
    why: tuple[str, ...] = ()


def outcome_of(figures: Any, checks: Sequence[Check]) -> Outcome:
    """Whether a step's figures, as they stand in its file, are right."""
    if not isinstance(figures, Mapping) or not figures:
        return Outcome("failed", ("it left no figures",))
    absent = {name: part["left out"] for name, part in figures.items() if _has(part, "left out")}
    broken = [f"{name}: {part['failed']}" for name, part in figures.items() if _has(part, "failed")]
    if len(absent) == len(figures):
        return Outcome("left out", tuple(dict.fromkeys(map(str, absent.values()))))
    wrong = [words for check in checks for words in _complaints(figures, check)]
    if broken or wrong:
        return Outcome("failed", (*broken, *wrong))
    return Outcome("passed", tuple(f"{name} was left out: {words}" for name, words in absent.items()))


def figures_at(figures: Figures, path: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every figure at the path, with its own path; of a part, what it found."""
    for name, part in figures.items():
        if fnmatchcase(name, path[0]):
            yield from _within((name,), part["found"] if _has(part, "found") else part, path[1:])


def _within(place: tuple[str, ...], value: Any, path: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not path:
        yield place, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            if fnmatchcase(key, path[0]):
                yield from _within((*place, key), below, path[1:])


def _complaints(figures: Figures, check: Check) -> Iterator[str]:
    named = [part for name, part in figures.items() if fnmatchcase(name, check.path[0])]
    if named and all(_has(part, "left out") or _has(part, "failed") for part in named):
        return  # said already
    found = list(figures_at(figures, check.path))
    if not found and not check.optional:
        yield f"{' > '.join(check.path)}: there is no such figure; expected {check.rule.says}"
    for place, value in found:
        if not _holds(check.rule, value):
            yield f"{' > '.join(place)}: {value!r:.80}; expected {check.rule.says}"


def _holds(rule: Rule, value: Any) -> bool:
    try:
        return bool(rule.holds(value))
    except (TypeError, KeyError, ValueError, AttributeError):  # not what it should be at all
        return False


def _has(part: Any, key: str) -> bool:
    return isinstance(part, Mapping) and key in part


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return value


def at_most(most: float) -> Rule:
    """A number from 0 to `most`; not NaN."""
    return Rule(f"at most {most:g}", lambda value: 0 <= _number(value) <= most, 10 * most + 1)


def text(pattern: str) -> Rule:
    """Text that the regular expression is found in."""
    return Rule(f"text like {pattern!r}", lambda value: bool(re.search(pattern, value)), "")


def equal(first: str, second: str) -> Rule:
    """A group with two figures that must be equal."""
    return Rule(f"{first} equal to {second}", lambda group: group[first] == group[second], {first: 1, second: 2})


def at_most_given(first: str, second: str) -> Rule:
    """A group with a number from 0 to another of its numbers."""
    return Rule(
        f"{first} at most {second}",
        lambda group: 0 <= _number(group[first]) <= _number(group[second]),
        {first: 2.0, second: 1.0},
    )


TRUE = Rule("true", lambda value: value is True, False)
FALSE = Rule("false", lambda value: value is False, True)
ZERO = Rule("0", lambda value: _number(value) == 0, 3)
POSITIVE = Rule("a number above 0", lambda value: 0 < _number(value) < math.inf, math.nan)
EMPTY = Rule("none", lambda value: isinstance(value, list) and not value, ["planted"])
FINE = Rule("no error", lambda value: value["error"] is None, {"error": "BackendError", "words": "planted"})
LOST = Rule("an error that says that the context is lost", lambda value: value["lost"] is True, {"lost": False})
NOT_REFUSED = Rule("not refused", lambda value: value == "not refused", "planted")
ALL_NOT_REFUSED = Rule("none refused", lambda value: set(value) == {"not refused"}, ["not refused", "planted"])
