"""Options that belong together reach a command as one finished object."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import click

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def option_group(name: str, make: Callable[..., object], options: Sequence[Decorator]) -> Decorator:
    """A decorator that adds click options to a command, which gets one argument for them all.

    The argument is called `name`, and is what `make` makes of the options' values, given by the options' names.
    """
    taken = [option.name for option in click.command()(_with(options, lambda: None)).params]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_object(**values: Any) -> Any:
            made = make(**{option: values.pop(option) for option in taken if option is not None})
            return command(**{name: made}, **values)

        return _with(options, with_object)

    return decorate


def _with(options: Sequence[Decorator], command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the options, in the order of `--help`."""
    for option in reversed(options):
        command = option(command)
    return command
