"""The bundle that a command works with, and a word of advice where it lies in the former folder."""

from __future__ import annotations

from pathlib import Path

import click

from glass_rt.bundle.bundle import DEFAULT_FOLDER, FORMER_FOLDER, find_bundle


def chosen_bundle(engine: Path | None) -> Path:
    """The folder of `--engine`, or the one that `find_bundle` finds. Raises BundleNotFound, UsageError."""
    found = find_bundle(engine)
    if engine is None and found.parent == FORMER_FOLDER:
        click.echo(
            f"using {found}: new bundles are built in ./{DEFAULT_FOLDER}; to keep this one, mkdir -p {DEFAULT_FOLDER} "
            f"&& mv {found} {DEFAULT_FOLDER}/",
            err=True,
        )
    return found


def named_once(argument: Path | None, option: Path | None) -> Path | None:
    """The folder that a command was given as its argument or by `--engine`. Raises click.UsageError for two of them."""
    if argument is not None and option is not None and argument != option:
        raise click.UsageError(f"got {argument} and --engine {option}; name one bundle")
    return option if argument is None else argument
