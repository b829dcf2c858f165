"""The options of `serve` that say what the server allows, as one argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glass_rt.cli.option_group import Decorator, option_group
from glass_rt.cli.options import max_pixels_option
from glass_rt.machine.limits.memory import size_from_text, smallest_limit
from glass_rt.serve.settings import MIB, ServerSettings

DEFAULTS = ServerSettings()
_SMALL_MEMORY = 512 * MIB
_LEAST_ROOM = 16 * MIB  # for bodies: a photograph, and another


def parse_size(_ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes, from a number with K, M or G behind it for the powers of 1024; None where nothing is said."""
    if value is None:
        return None
    size = size_from_text(value)
    if not size:
        raise click.BadParameter(
            f"{value!r} is no size: write a number of bytes, with K, M or G behind it if you like", param=param
        )
    return size


def _size(option: str, text: str) -> Decorator:
    return click.option(option, callback=parse_size, metavar="SIZE", help=text)


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
    _size(
        "--max-body",
        "Largest body of a request; a larger one gets 413.  [default: 64M, at most the default of --queue-bytes]",
    ),
    max_pixels_option,
    _count("--max-crops", DEFAULTS.max_crops, "K", "Most crops per image that a request may ask for."),
    _count("--queue-images", DEFAULTS.queue_images, "N", "Images under way at once; further ones get 429."),
    _size(
        "--queue-bytes",
        "Bodies in memory at once; further ones get 429.  [default: 512M, at most a quarter of the memory, below 512M "
        "an eighth]",
    ),
    _seconds("--deadline", "deadline_s", "An image that is not judged by then gets 504."),
    _seconds("--body-timeout", "body_timeout_s", "Time for a request's body to arrive."),
    _seconds("--header-timeout", "header_timeout_s", "Time for a request's headers to arrive."),
    _seconds("--drain-timeout", "drain_timeout_s", "Time for the requests under way to finish after SIGTERM."),
)


def _settings(
    api_key_file: Path | None, max_body: int | None, queue_bytes: int | None, **limits: Any
) -> ServerSettings:
    from glass_rt.serve.api_keys import read_api_keys

    keys = read_api_keys(api_key_file) if api_key_file else ()
    room = _room_for_bodies()
    body = max_body or min(DEFAULTS.max_body, room)
    queue = queue_bytes or max(body, room)
    return ServerSettings(**limits, max_body=body, queue_bytes=queue, api_keys=keys, api_key_file=api_key_file)


def _room_for_bodies() -> int:
    """Bytes: as the settings have it, or a part of the memory (`--memory` included), a smaller one of a small memory.

    Images leave all of it free, and have to fit beside the engines into what remains.
    """
    limit = smallest_limit(click.get_current_context().params.get("memory"))
    if limit is None:
        return DEFAULTS.queue_bytes
    return max(_LEAST_ROOM, min(DEFAULTS.queue_bytes, limit // (4 if limit >= _SMALL_MEMORY else 8)))


# The command gets `settings`, a ServerSettings.
server_options = option_group("settings", _settings, _OPTIONS)
