"""The options of `build` that only TensorRT's backends know, as one argument."""

from __future__ import annotations

from typing import Any

import click

from glass_engines.trt.settings import TrtSettings
from glass_rt.cli.option_group import option_group
from glass_rt.machine.cache_files import user_places

_OPTIONS = (
    click.option("--profile", metavar="NAME",
                 help="TensorRT: batch sizes, of a100, l4, orin, rtx or a file.  [default: by GPU]"),
    click.option(
        "--target", default="default", show_default=True, metavar="SM",
        help="TensorRT: GPU architectures, for example 8.9 or 8.6,8.9 (RTX); default, same-sm, ampere+ (TensorRT).",
    ),
    click.option("--workspace", "workspace_mb", type=click.IntRange(1), metavar="MB",
                 help="TensorRT: most scratch memory."),
    click.option("--optimisation-level", type=click.IntRange(0, 5), metavar="0..5",
                 help="TensorRT: how hard its builder tries."),
    click.option("--tf32", is_flag=True, help="TensorRT: let float32 products be computed in TF32."),
    click.option("--no-cache", is_flag=True, help="TensorRT: build even what was built before."),
)  # fmt: skip


def _settings(no_cache: bool, **values: Any) -> TrtSettings:
    """A user without a home and without a named cache folder has no cache."""
    place = None if no_cache else next(iter(user_places()), None)
    return TrtSettings(**values, cache=place)


# The command gets `trt`, a TrtSettings.
trt_options = option_group("trt", _settings, _OPTIONS)
