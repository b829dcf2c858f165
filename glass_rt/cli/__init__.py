"""The command line: each command translates its options into one call of the library and prints the result."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from importlib.metadata import EntryPoint, entry_points
from types import FrameType

import click

from glass_rt.errors import GlassError, UsageError
from glass_rt.machine.malloc import give_back_large_arrays
from glass_rt.results.file_names import text_from_name
from glass_rt.version import __version__

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

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
_ORDER = ("build", "export", "infer", "serve", "bulk", "inspect", "verify", "doctor", "triton")


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


def _load(point: EntryPoint) -> click.Command:
    command = point.load()
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
    """Detects AI-generated images with GLASS: a look at the whole, and at crops in original resolution.

    \b
    First:  glass-rt build --backbone vit_b16     a checkpoint becomes an engine
    Then:   glass-rt infer image.png              an image gets a verdict
    """


def main() -> None:
    """Runs the command line and turns errors into exit codes: 1 failed, 2 wrong usage, 130 interrupted."""
    give_back_large_arrays()
    if isinstance(sys.stdout, io.TextIOWrapper):  # as Python does for stderr: names may be in no encoding of a locale
        sys.stdout.reconfigure(errors="backslashreplace")
    interrupted = _note_interrupts()
    try:
        code = cli.main(prog_name="glass-rt", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except (GlassError, OSError, click.ClickException) as error:
        # Some libraries turn KeyboardInterrupt into errors of their own, ImportError among them.
        code = EXIT_INTERRUPTED if interrupted.is_set() else _complain(error)
    if code == EXIT_INTERRUPTED:
        click.echo("interrupted", err=True)
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


def _complain(error: Exception) -> int:
    """Says what went wrong, in one place for all commands; returns the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    click.echo(f"error: {_printable(str(error))}", err=True)
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def _printable(message: str) -> str:
    """A message whose file names cannot command the terminal."""
    return "\n".join(map(text_from_name, message.split("\n")))
