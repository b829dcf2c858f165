"""Frozen dataclasses out of JSON that is not trusted: every value is checked against its annotation."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from glass_rt.errors import BundleInvalid

T = TypeVar("T")


def record_from_json(kind: type[T], values: Any, where: str) -> T:
    """The dataclass `kind` from a JSON object; `where` names it in errors.

    Fields may be str, int, float, bool, other dataclasses, `tuple[X, ...]`, `tuple[X, X]`, `Mapping[str, X]` and
    `X | None`. Fields with a default may be missing, unknown ones are passed over. Raises BundleInvalid by name.
    """
    if not isinstance(values, dict):
        raise BundleInvalid(f"{where} is {values!r:.60}; expected an object")
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]  # callers pass dataclasses
        if field.name in values:
            found[field.name] = _value(hints[field.name], values[field.name], f"{where}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise BundleInvalid(f"{where}.{field.name} is missing")
    return kind(**found)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _value(inner, value, where)
    if is_dataclass(hint):
        return record_from_json(hint, value, where)  # type: ignore[arg-type]  # is_dataclass tells mypy less than us
    if origin is tuple:
        return _tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise BundleInvalid(f"{where} is {value!r:.60}; expected an object")
        return {name: _value(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise BundleInvalid(f"{where} is {value!r:.60}; expected {hint.__name__}")
    return hint(value)


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or (arguments[-1] is not Ellipsis and len(value) != len(arguments)):
        raise BundleInvalid(f"{where} is {value!r:.60}; expected a list")
    return tuple(_value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
