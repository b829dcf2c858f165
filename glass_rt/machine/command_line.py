"""The command line of this process, as records show it."""

from __future__ import annotations

from pathlib import Path


def shown_command(argv: list[str]) -> str:
    """The command line for a record: paths are cut to their last part, which says enough and betrays nothing."""
    return " ".join(["glass-rt", *(_last_part(word) for word in argv[1:])])


def _last_part(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={_last_part(value)}"
    return Path(word).name if "/" in word else word
