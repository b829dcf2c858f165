"""The options of `build` that only TensorRT's backends know, gathered into one argument."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from glass_engines.trt_settings import TrtSettings
from glass_rt.kept import user_cache

_OPTIONS = (
    click.option("--profile", metavar="NAME", help="Batch sizes: a100, l4, orin, rtx or a file.  [default: by GPU]"),
    click.option(
        "--target", default="default", show_default=True, metavar="SM",
        help="GPU architectures, for example 8.9 or 8.6,8.9 (RTX); default, ampere+ (TensorRT).",
    ),
    click.option("--workspace", "workspace_mb", type=click.IntRange(1), metavar="MB", help="Scratch memory, at most."),
    click.option("--optimisation-level", type=click.IntRange(0, 5), metavar="0..5", help="The vendor's effort."),
    click.option("--tf32", is_flag=True, help="Let float32 products be computed in TF32."),
    click.option("--no-cache", is_flag=True, help="Build even what was built before."),
)  # fmt: skip


def trt_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which gets them as `trt`, a TrtSettings."""

    @functools.wraps(command)
    def gathered(
        *,
        profile: str | None,
        target: str,
        workspace_mb: int | None,
        optimisation_level: int | None,
        tf32: bool,
        no_cache: bool,
        **others: Any,
    ) -> Any:
        cache: Path | None = None if no_cache else user_cache()
        settings = TrtSettings(
            profile,
            target,
            workspace_mb=workspace_mb,
            optimisation_level=optimisation_level,
            tf32=tf32,
            cache=cache,
        )
        return command(trt=settings, **others)

    wrapped: Callable[..., Any] = gathered
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
