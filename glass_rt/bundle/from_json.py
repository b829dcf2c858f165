"""Frozen dataclasses out of JSON that is not trusted: every value is checked against its annotation."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from glass_rt.errors import BundleInvalid, GlassError

T = TypeVar("T")
_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_WIDEST = 1 << 63  # no count, size or number of a manifest is that large


@dataclass(frozen=True)
class AtLeast:
    """In `Annotated[int, AtLeast(1)]`: the least value that is accepted."""

    low: int

    def accepts(self, value: Any) -> bool:
        """Whether the value is large enough."""
        return bool(value >= self.low)

    def __str__(self) -> str:
        return f"at least {self.low}"


@dataclass(frozen=True)
class AtMost:
    """In `Annotated[int, AtMost(9)]`: the largest value that is accepted."""

    high: int

    def accepts(self, value: Any) -> bool:
        """Whether the value is small enough."""
        return bool(value <= self.high)

    def __str__(self) -> str:
        return f"at most {self.high}"


@dataclass(frozen=True)
class OneOf:
    """In `Annotated[str, OneOf(("a", "b"))]`: the values that are accepted."""

    choices: tuple[str, ...]

    def accepts(self, value: Any) -> bool:
        """Whether the value is one of the choices."""
        return value in self.choices

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}"


def values_from_text(text: str) -> Any:
    """JSON values of a text that is not trusted: finite numbers, and no key twice in an object. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r:.60} stands twice in one object")
    return values


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def record_from_json(
    kind: type[T], values: Any, where: str, *, error: type[GlassError] = BundleInvalid, strict: bool = False
) -> T:
    """The dataclass `kind` from a JSON object; `where` names it in errors.

    Fields may be str, int, float, bool, other dataclasses, `tuple[X, ...]`, `tuple[X, X]`, `Mapping[str, X]`,
    `dict[str, X]`, `X | None` and Any, and `Annotated` by AtLeast, AtMost or OneOf. Fields
    with a default may be missing, unknown ones are passed over unless it is `strict`. Raises `error` by name, also in
    place of the errors that a dataclass raises about its own values.
    """
    return _Reader(error, strict).record(kind, values, where)


@dataclass(frozen=True)
class _Reader:
    error: type[GlassError]
    strict: bool

    def record(self, kind: type[T], values: Any, where: str) -> T:
        """A dataclass."""
        self._expect(dict, "an object", values, where)
        hints = get_type_hints(kind, include_extras=True)
        if self.strict and (unknown := sorted(set(values) - set(hints))):
            raise self.error(f"{where}: unknown field {unknown[0]!r}")
        found = {}
        for field in fields(kind):  # type: ignore[arg-type]  # callers pass dataclasses
            place = f"{where}{'' if where.endswith(': ') else '.'}{field.name}"
            if field.name in values:
                found[field.name] = self._value(hints[field.name], values[field.name], place)
            elif field.default is MISSING and field.default_factory is MISSING:
                raise self.error(f"{place} is missing")
        try:
            return kind(**found)
        except GlassError as problem:
            raise self.error(f"{where}{'' if where.endswith(': ') else ': '}{problem}") from None

    def _value(self, hint: Any, value: Any, where: str) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        if hint is Any:
            return value
        if origin is Annotated:
            return self._accepted(self._value(arguments[0], value, where), arguments[1:], where)
        if origin in (Union, types.UnionType):
            inner = next(argument for argument in arguments if argument is not type(None))
            return None if value is None else self._value(inner, value, where)
        if is_dataclass(hint):
            return self.record(hint, value, where)  # type: ignore[arg-type]  # is_dataclass tells mypy less than us
        if origin is tuple:
            return self._tuple(arguments, value, where)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            self._expect(dict, "an object", value, where)
            return {name: self._value(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
        self._expect((int, float) if hint is float else hint, _WORDS[hint], value, where)
        if isinstance(value, bool) and hint is not bool:
            raise self.error(f"{where} is {value!r}; expected {_WORDS[hint]}")
        if not self._in_range(hint, value):
            raise self.error(f"{where} is {value!r:.60}; expected {_WORDS[hint]}")
        return hint(value)

    @staticmethod
    def _in_range(hint: Any, value: Any) -> bool:
        """JSON's numbers have any length."""
        if hint is int:
            return bool(abs(value) < _WIDEST)
        try:
            return hint is not float or math.isfinite(value)
        except OverflowError:
            return False

    def _accepted(self, value: Any, rules: tuple[AtLeast | AtMost | OneOf, ...], where: str) -> Any:
        for rule in rules:
            if not rule.accepts(value):
                raise self.error(f"{where} is {value!r:.60}; expected {rule}")
        return value

    def _tuple(self, arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
        self._expect(list, "a list", value, where)
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise self.error(f"{where} is {value!r:.60}; expected a list of {len(arguments)}")
        return tuple(self._value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))

    def _expect(self, kind: Any, words: str, value: Any, where: str) -> None:
        if not isinstance(value, kind):
            raise self.error(f"{where} is {value!r:.60}; expected {words}")
