"""`--fail-if 'p99_ms>50'`: a limit that a figure may not pass."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from glass_rt.errors import UsageError

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*(?:(?P<contender>.+):)?(?P<figure>\w+)\s*(?P<sign>>=|<=|>|<)\s*(?P<limit>[-+\d.eE]+)\s*")


@dataclass(frozen=True)
class Condition:
    """`[CONTENDER:]FIGURE SIGN NUMBER`; without a contender it is about every engine that `--engine` named."""

    text: str
    contender: str | None
    figure: str
    sign: str
    limit: float

    def met(self, value: float) -> bool:
        """Whether a figure fulfils the condition, so that the run fails."""
        return _OPERATORS[self.sign](value, self.limit)


def parse_condition(text: str, figures: Iterable[str]) -> Condition:
    """Parses one condition; raises UsageError with the form and the figures there are."""
    known = list(figures)
    match = _FORM.fullmatch(text)
    try:
        limit = float(match["limit"]) if match else None
    except ValueError:
        limit = None
    if match is None or limit is None or match["figure"] not in known:
        raise UsageError(
            f"fail-if: got {text!r}; expected [CONTENDER:]FIGURE>NUMBER with >, >=, < or <= "
            f"and one of {', '.join(known)}"
        )
    return Condition(text.strip(), match["contender"], match["figure"], match["sign"], limit)
