"""The options of `serve` that say what the server allows, as one argument."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from glass_rt.cli.option_group import Decorator, option_group
from glass_rt.cli.options import max_pixels_option
from glass_rt.serve.settings import ServerSettings

DEFAULTS = ServerSettings()


def parse_size(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Bytes, from a number with K, M or G behind it for the powers of 1024."""
    found = re.fullmatch(r"(\d{1,15})([KMG]?)", value.strip(), re.IGNORECASE)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(
            f"{value!r} is no size: write a number of bytes, with K, M or G behind it if you like", param=param
        )
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]


def _size(option: str, default: str, text: str) -> Decorator:
    return click.option(option, callback=parse_size, default=default, show_default=True, metavar="SIZE", help=text)


def _count(option: str, default: int, metavar: str, text: str) -> Decorator:
    return click.option(option, type=click.IntRange(1), default=default, show_default=True, metavar=metavar, help=text)


def _seconds(option: str, name: str, text: str) -> Decorator:
    return click.option(
        option,
        name,
        type=click.FloatRange(0, min_open=True),
        default=getattr(DEFAULTS, name),
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


_OPTIONS = (
    click.option(
        "--api-key-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Ask for an API key; the file holds one per line, and is read again on SIGHUP.  [default: none is asked "
        "for]",
    ),
    _size("--max-body", "64M", "Of one request."),
    max_pixels_option,
    _count("--max-crops", DEFAULTS.max_crops, "K", "Most crops per image that a request may ask for."),
    _count("--queue-images", DEFAULTS.queue_images, "N", "Images under way at once; further ones get 429."),
    _size("--queue-bytes", "512M", "Bodies in memory at once; further ones get 429."),
    _seconds("--deadline", "deadline_s", "An image that is not judged by then gets 504."),
    _seconds("--body-timeout", "body_timeout_s", "For a request's body to arrive."),
    _seconds("--header-timeout", "header_timeout_s", "For a request's headers to arrive."),
    _seconds("--drain-timeout", "drain_timeout_s", "For requests under way to finish after SIGTERM."),
)


def _settings(api_key_file: Path | None, **limits: Any) -> ServerSettings:
    from glass_rt.serve.api_keys import read_api_keys

    keys = read_api_keys(api_key_file) if api_key_file else ()
    return ServerSettings(**limits, api_keys=keys, api_key_file=api_key_file)


# The command gets `settings`, a ServerSettings.
server_options = option_group("settings", _settings, _OPTIONS)
