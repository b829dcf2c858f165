"""Options that several commands share, spelled alike everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import click

from glass_rt.cli.option_group import option_group
from glass_rt.errors import UsageError
from glass_rt.image.encoded import DEFAULT_MAX_PIXELS
from glass_rt.image.sampling import MAX_SEED
from glass_rt.machine.device import DEVICE_HELP
from glass_rt.machine.limits.memory import memory_from_text
from glass_rt.options import DECODERS, DEFAULT_MARGIN, Crops, DetectOptions, RunOptions, crops_from_text

_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE | re.ASCII)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress and no notices on stderr.")
engine_option = click.option(
    "--engine",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Bundle to use.  [default: $GLASS_RT_ENGINE, else the only GLASS bundle under ./bundles]",
)
labels_option = click.option(
    "--labels",
    default="folder",
    show_default=True,
    metavar="folder|FILE",
    help="Sub-folders `fake` and `real`, or a table with the columns path and label.",
)
split_option = click.option(
    "--split", metavar="NAME", help="Images of this part alone: train, val, calibration or test."
)
device_option = click.option("--device", metavar="DEVICE", help=f"{DEVICE_HELP}  [default: the bundle's]")
batch_option = click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Most views in one run of an engine.  [default: 4 to 16 by cores]",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads of an engine.  [default: cores]"
)


def parse_pin(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The value of `--expect-bundle`: the 64 hexadecimal digits of a SHA-256."""
    if value is not None and not _SHA256.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} is no SHA-256; `glass-rt inspect` prints the bundle's, of 64 hexadecimal digits", param=param
        )
    return value


expect_bundle_option = click.option(
    "--expect-bundle",
    callback=parse_pin,
    metavar="SHA256",
    help="Refuse any other bundle than the one with this SHA-256, which `glass-rt inspect` prints.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Threads that decode.  [default: cores, up to 8]"
)


def parse_memory(_ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """The value of `--memory`, in bytes."""
    try:
        return None if value is None else memory_from_text(value)
    except UsageError as error:
        raise click.BadParameter(str(error).removeprefix("memory: "), param=param) from None


memory_option = click.option(
    "--memory",
    callback=parse_memory,
    metavar="SIZE",
    help="Memory that this process may hold, such as 512m or 1g.  [default: what its container or machine has]",
)
decode_option = click.option(
    "--decode",
    type=click.Choice(DECODERS),
    default="cpu",
    show_default=True,
    help="device: the GPU of the engines decodes the JPEGs that it can. Verdicts of those differ a little, and say so.",
)
cache_option = click.option(
    "--no-cache", "cache", flag_value=False, default=True, help="Neither read nor keep what OpenVINO has compiled."
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger images, by their header.",
)
crop_count_option = click.option(
    "--crops", type=click.IntRange(1), metavar="K", help="Crops per image.  [default: as trained]"
)
draws_option = click.option(
    "--draws",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="R",
    help="Sample so many times, with the seeds S, S+1, ...; the mean decides.",
)
sampling_option = click.option(
    "--sampling",
    type=click.Choice(["stratified", "tiles"]),
    default="stratified",
    show_default=True,
    help="How crops are drawn; tiles: every window of the image.",
)
threshold_option = click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Call an image fake from this probability on, without a guarantee.  [default: the bundle's decision]",
)


def parse_crops(_ctx: click.Context, param: click.Parameter, value: str | None) -> Crops:
    """The value of `--crops`: a number from 1 on, or `auto`."""
    try:
        crops = None if value is None else crops_from_text(value)
    except UsageError:
        crops = 0
    if crops == 0:
        raise click.BadParameter(f"{value!r} is neither a number from 1 on nor auto", param=param)
    return crops


_JUDGING = (
    click.option(
        "--crops",
        callback=parse_crops,
        metavar="K|auto",
        help="Crops per image; auto: as few of those it was trained with as the verdict needs.  [default: as trained]",
    ),
    click.option(
        "--margin",
        type=click.FloatRange(0, min_open=True),
        default=DEFAULT_MARGIN,
        show_default=True,
        metavar="X",
        help="--crops auto stops this many standard errors from the threshold.",
    ),
    draws_option,
    sampling_option,
    click.option(
        "--seed",
        type=click.IntRange(0, MAX_SEED),
        metavar="N",
        help="Seed of the crops, as in torch.Generator().manual_seed(N).  [default: from the file's SHA-256]",
    ),
    threshold_option,
    max_pixels_option,
)

# How an engine is run: the command gets `run`, a RunOptions.
_OF_ANY_BUNDLE = (device_option, batch_option, threads_option, memory_option, cache_option, decode_option)
_RUNNING = (*_OF_ANY_BUNDLE, expect_bundle_option)
run_options = option_group("run", RunOptions, (*_RUNNING, workers_option))
# For a command that opens several bundles, of which --expect-bundle could pin one at the most.
several_run_options = option_group("run", RunOptions, (*_OF_ANY_BUNDLE, workers_option))
# The same for `bulk`, whose `--workers` are processes.
worker_run_options = option_group("run", RunOptions, _RUNNING)
# How images are judged: the command gets `options`, a DetectOptions.
detect_options = option_group("options", DetectOptions, _JUDGING)
