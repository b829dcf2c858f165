"""Options that several commands share, spelled alike everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def engine_option(command: F) -> F:
    """`--engine DIR`: the bundle."""
    return click.option(
        "--engine",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Bundle to use.  [default: $GLASS_RT_ENGINE, else the only GLASS bundle under ./engines]",
    )(command)


def run_options(command: F) -> F:
    """How an engine is run: `--device`, `--batch`, `--threads`, `--expect-bundle`."""
    for option in (
        click.option("--expect-bundle", metavar="SHA256", help="Refuse any other bundle than this one (see inspect)."),
        click.option(
            "--threads", type=click.IntRange(1), metavar="N", help="CPU threads of an engine.  [default: cores]"
        ),
        click.option("--batch", type=click.IntRange(1), metavar="N", help="Most views in one run.  [default: 16]"),
        click.option("--device", metavar="DEVICE", help="cpu, cuda or cuda:N.  [default: the backend's own]"),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress and no notices on stderr.")
