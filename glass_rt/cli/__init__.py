"""The command line: each command translates its options into one call of the library and prints the result."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import FrameType
from typing import Any

import click

from glass_rt.cli.streams import Results, open_streams, reason
from glass_rt.errors import GlassError, OutOfMemory, OutputLost, UsageError, lacks_memory
from glass_rt.machine.leave import INTERRUPTED, leave, leave_on_interrupt
from glass_rt.machine.limits.memory import addresses_are_limited, require_memory
from glass_rt.machine.malloc import give_back_large_arrays
from glass_rt.machine.telemetry import keep_silent
from glass_rt.results.file_names import text_from_name
from glass_rt.version import __version__

# What NumPy and OpenCV take of addresses, less than was measured, and with one thread of OpenBLAS: each further one
# takes 170 MB, and ends the process by a segmentation fault where there are fewer. Judging uses one.
_ADDRESSES_TO_START = 250 << 20
_MEMORY_TO_START = 24 << 20  # beyond what Python holds; a command with NumPy and OpenCV took 20 MB
_ONE_BLAS_THREAD = ("OPENBLAS_NUM_THREADS", "1")
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_NO_READER = 1, 2, INTERRUPTED, 128 + 13  # 13: SIGPIPE

_MORE_FILES = "; allow this process more of them: ulimit -n 4096"

# The runtime's own commands, imported when they are typed.
_OWN = {
    "infer": "glass_rt.cli.infer:infer",
    "serve": "glass_rt.cli.serve:serve",
    "inspect": "glass_rt.cli.inspect:inspect",
    "verify": "glass_rt.cli.verify:verify",
    "doctor": "glass_rt.cli.doctor:doctor",
    "bulk": "glass_rt.cli.bulk:bulk",
    "triton": "glass_rt.cli.triton_repository:triton",
}
_ORDER = (
    "train", "card", "build", "export", "calibrate", "infer", "serve", "bulk", "inspect", "verify", "doctor", "triton",
)  # fmt: skip


class Commands(click.Group):
    """Own commands, and those that the other stages join by entry points; a command is imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which one meets them."""
        names = {*_OWN, *(point.name for point in entry_points(group="glass_rt.commands"))}
        return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if name in _OWN:
            return _load(EntryPoint(name, _OWN[name], "glass_rt.commands"))
        for point in entry_points(group="glass_rt.commands", name=name):
            return _load(point)
        return None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that is meant; the error for an unknown one names the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}; did you mean {near[0]}?", ctx) from None

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """As for any group; --help and --version print here."""
        with _told_of_readers():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        with _told_of_readers():
            return super().invoke(ctx)


class _ReaderGone(Exception):
    """The reader of our output has gone, as when `head` has ended. Of BrokenPipeError Click makes an exit code of 1."""


@contextmanager
def _told_of_readers() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error


def _load(point: EntryPoint) -> click.Command:
    """The command, imported. Raises OutOfMemory."""
    with _leaving_on_interrupt():
        if addresses_are_limited():
            os.environ.setdefault(*_ONE_BLAS_THREAD)
        require_memory("start", _MEMORY_TO_START, _ADDRESSES_TO_START - _MEMORY_TO_START)
        try:
            command = point.load()
        except (ImportError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            raise OutOfMemory("start") from error
    assert isinstance(command, click.Command)
    return command


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from glass_rt.machine.environment import backend_versions

    click.echo(f"glass-rt {__version__}")
    for name, version in backend_versions().items():
        click.echo(f"  {name}: {version or 'not installed'}")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Version and backends."
)
def cli() -> None:
    """Detect AI-generated images with GLASS, which looks at the whole image and at crops in original resolution.

    A bundle is a folder with a model's engines; most commands use one.

    \b
    First:  glass-rt build --weights FILE     a checkpoint becomes a bundle
    Or:     glass-rt train DIR ...            labelled images become one
    Then:   glass-rt infer image.png          an image gets a verdict
    """


def main() -> None:
    """Runs the command line and turns errors into exit codes: 1 failed, 2 wrong usage, 130 interrupted.

    A full disk, or nothing at all, behind stdout is such an error; behind stderr it is not.
    """
    results = open_streams()
    give_back_large_arrays()
    keep_silent()
    interrupted = _note_interrupts()
    try:
        code = int(cli.main(prog_name="glass-rt", standalone_mode=False) or 0)
    except _ReaderGone:
        code = EXIT_NO_READER
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except Exception as error:
        # Some libraries turn KeyboardInterrupt into errors of their own, of any type.
        came = interrupted.is_set() and not isinstance(error, OutputLost)
        code = EXIT_INTERRUPTED if came else _complain(error, results)
    if results is not None and (failure := results.end()) is not None and not isinstance(failure, BrokenPipeError):
        code = _say_error(f"standard output cannot be written: {reason(failure)}")
    if code == EXIT_INTERRUPTED:
        click.echo("interrupted", err=True)
    if threading.current_thread() is threading.main_thread():
        leave_on_interrupt()  # there is nothing left to do but to end
    sys.exit(code)


def _note_interrupts() -> threading.Event:
    """Lets Ctrl-C raise KeyboardInterrupt as always, and remembers that it came."""
    came = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        came.set()
        signal.default_int_handler(number, frame)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, note)
    return came


@contextmanager
def _leaving_on_interrupt() -> Iterator[None]:
    """Within the block Ctrl-C ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _complain(error: Exception, results: Results | None) -> int:
    """Says what went wrong, in one place for all commands; returns the exit code. Raises what is a fault of ours."""
    if isinstance(error, click.ClickException):
        message = io.StringIO()
        error.show(message)
        # Letter by letter: what its maker has escaped already stays as it is.
        click.echo(
            "".join(letter if letter == "\n" else text_from_name(letter) for letter in message.getvalue()),
            nl=False,
            err=True,
        )
        return error.exit_code
    if results is not None and error is results.failure:
        return EXIT_FAILED  # which is said at the end
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        error = OutOfMemory("start a thread")
    if type(error) is MemoryError:
        return _say_error(str(OutOfMemory("go on")))
    if not isinstance(error, GlassError | OSError):
        raise error
    remedy = _MORE_FILES if os.strerror(errno.EMFILE) in str(error) else ""
    return _say_error(f"{error}{remedy}", EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)


def _say_error(message: str, code: int = EXIT_FAILED) -> int:
    click.echo(f"error: {_printable(message)}", err=True)
    return code


def _printable(message: str) -> str:
    """A message whose file names cannot command the terminal."""
    return "\n".join(map(text_from_name, message.split("\n")))
