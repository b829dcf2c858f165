"""Frozen dataclasses out of JSON that is not trusted: every value is checked against its annotation."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from glass_rt.errors import BundleInvalid, GlassError

T = TypeVar("T")


def record_from_json(
    kind: type[T], values: Any, where: str, *, error: type[GlassError] = BundleInvalid, strict: bool = False
) -> T:
    """The dataclass `kind` from a JSON object; `where` names it in errors.

    Fields may be str, int, float, bool, other dataclasses, `tuple[X, ...]`, `tuple[X, X]`, `Mapping[str, X]`,
    `dict[str, X]`, `X | None` and Any. Fields with a default may be missing, unknown ones are passed over unless it is
    `strict`. Raises `error` by name.
    """
    return _Reader(error, strict).record(kind, values, where)


@dataclass(frozen=True)
class _Reader:
    error: type[GlassError]
    strict: bool

    def record(self, kind: type[T], values: Any, where: str) -> T:
        """A dataclass."""
        self._expect(dict, "an object", values, where)
        hints = get_type_hints(kind)
        if self.strict and (unknown := sorted(set(values) - set(hints))):
            raise self.error(f"{where}: unknown field {unknown[0]!r}")
        found = {}
        for field in fields(kind):  # type: ignore[arg-type]  # callers pass dataclasses
            if field.name in values:
                found[field.name] = self._value(hints[field.name], values[field.name], f"{where}.{field.name}")
            elif field.default is MISSING and field.default_factory is MISSING:
                raise self.error(f"{where}.{field.name} is missing")
        return kind(**found)

    def _value(self, hint: Any, value: Any, where: str) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        if hint is Any:
            return value
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
        self._expect((int, float) if hint is float else hint, hint.__name__, value, where)
        if isinstance(value, bool) and hint is not bool:
            raise self.error(f"{where} is {value!r}; expected {hint.__name__}")
        try:
            return hint(value)
        except OverflowError:  # JSON's integers have any length
            raise self.error(f"{where} is {value!r:.60}; expected {hint.__name__}") from None

    def _tuple(self, arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
        self._expect(list, "a list", value, where)
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise self.error(f"{where} is {value!r:.60}; expected a list of {len(arguments)}")
        return tuple(self._value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))

    def _expect(self, kind: Any, words: str, value: Any, where: str) -> None:
        if not isinstance(value, kind):
            raise self.error(f"{where} is {value!r:.60}; expected {words}")
