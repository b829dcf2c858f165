"""Options that reach a command as one object."""

from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from glass_rt import DetectOptions
from glass_rt.cli.option_group import option_group
from glass_rt.cli.options import detect_options, run_options
from glass_rt.errors import UsageError
from glass_rt.options import RunOptions


@dataclass(frozen=True)
class Pair:
    left: int
    right_hand: str | None


pair = option_group("both", Pair, (click.option("--left", type=int, default=1), click.option("--right", "right_hand")))


@click.command()
@click.option("--first")
@pair
@click.option("--last")
def command(first: str | None, both: Pair, last: str | None) -> None:
    """Prints what it got."""
    click.echo(repr((first, both, last)))


def test_a_command_gets_the_object_beside_its_other_options() -> None:
    done = CliRunner().invoke(command, ["--last", "z", "--left", "2", "--right", "r", "--first", "a"])
    assert done.output == f"{('a', Pair(2, 'r'), 'z')!r}\n"
    assert CliRunner().invoke(command, []).output == f"{(None, Pair(1, None), None)!r}\n"


def test_help_lists_the_options_in_their_order() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    places = [text.index(option) for option in ("--first", "--left", "--right", "--last")]
    assert places == sorted(places)
    assert "Prints what it got." in text


def test_a_mistake_is_told_by_the_option_s_name() -> None:
    done = CliRunner().invoke(command, ["--left", "x"])
    assert done.exit_code == 2
    assert "'--left'" in done.output


@click.command()
@detect_options
@run_options
def judging(options: DetectOptions, run: RunOptions) -> None:
    click.echo(repr((options, run)))


def test_without_options_the_objects_are_the_library_s_defaults() -> None:
    assert CliRunner().invoke(judging, []).output == f"{(DetectOptions(), RunOptions())!r}\n"


def test_every_option_reaches_its_field() -> None:
    text = (
        "--crops auto --margin 2 --sampling stratified --seed 7 --threshold 0.3 --max-pixels 9 "
        "--device cpu --batch 4 --threads 2 --expect-bundle " + 32 * "ab"
    )
    options = DetectOptions(crops="auto", margin=2.0, seed=7, threshold=0.3, max_pixels=9)
    assert CliRunner().invoke(judging, text).output == f"{(options, RunOptions('cpu', 4, 2, 32 * 'ab'))!r}\n"


@pytest.mark.parametrize("pin", ["abc", 63 * "0", 65 * "0", 64 * "g", 64 * "٣", ""])
def test_a_pin_that_is_no_sha256_is_wrong_usage(pin: str) -> None:
    done = CliRunner().invoke(judging, ["--expect-bundle", pin])
    assert done.exit_code == 2
    assert "is no SHA-256; `glass-rt inspect` prints the bundle's" in " ".join(done.stderr.split())


def test_options_that_cannot_work_together_raise_the_library_s_error() -> None:
    with pytest.raises(UsageError, match="tiles are every window"):
        CliRunner().invoke(judging, ["--sampling", "tiles", "--crops", "3"], catch_exceptions=False)
