"""No command writes into a bundle's folder, where a file more would keep the bundle from being opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.outside import check_outside
from glass_rt.cli import cli as commands
from glass_rt.cli.output_path import OutputPath
from glass_rt.errors import UsageError
from tests.bench_zoo import write_bundle, write_picture
from tests.command_line import Cli

# Options and arguments that are paths to read; whatever else is a path is written.
READ = {
    "engine", "engines", "bundle", "source", "calibration", "environment", "data", "weights", "checkpoints", "images",
    "folder", "labelled", "import_from", "api_key_file", "baselines", "before", "after", "tls_certificate", "tls_key",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("outputs") / "bundle")


def all_commands(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its names, groups among them."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*names, name))


def outputs() -> list[tuple[str, ...]]:
    """Each command's names and the option that says what it writes."""
    return [
        (*names, param.opts[0])
        for names, command in all_commands(commands)
        for param in command.params
        if isinstance(param.type, OutputPath) or (names, param.name) == (("bulk",), "output")
    ]


def test_every_path_that_is_not_read_is_an_output() -> None:
    paths = [
        (names, param.name)
        for names, command in all_commands(commands)
        for param in command.params
        if isinstance(param.type, click.Path) and not isinstance(param.type, OutputPath)
    ]
    assert [(names, name) for names, name in paths if name not in READ] == []
    assert len(outputs()) >= 12


@pytest.mark.parametrize("place", ["results.csv", "below/results.csv", "model/results.csv"])
@pytest.mark.parametrize("names", outputs(), ids=" ".join)
def test_a_place_in_a_bundle_is_refused_in_one_line(
    cli: Cli, bundle: Path, tmp_path: Path, names: tuple[str, ...], place: str
) -> None:
    *command, option = names
    arguments = (
        [write_picture(tmp_path / "a.png", (9, 9, 9), 40, 40), "--engine", bundle] if command == ["bulk"] else []
    )
    done = cli(*command, option, bundle / place, *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"lies in the bundle {bundle}" in done.stderr
    assert "choose a place outside" in done.stderr
    Bundle.open(bundle)


@pytest.mark.parametrize("option", ["--output", "--overlay", "--report"])
def test_the_bundle_itself_a_link_to_it_and_a_default_are_no_places(
    cli: Cli, bundle: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "link").symlink_to(bundle)
    for place in (bundle, tmp_path / "link" / "x.jsonl", tmp_path / "link" / ".." / bundle.name / "x"):
        with pytest.raises(UsageError, match=f"^{option}: .* lies in the bundle"):
            check_outside(place, option)
    done = cli("eval", tmp_path, cwd=bundle)  # whose default is ./eval
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--output: eval lies in the bundle" in done.stderr


def test_places_where_nobody_can_look_are_left_to_the_writing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for place in (tmp_path / "loop" / "x.csv", tmp_path / f"{'a' * 300}.csv"):
        check_outside(place, "--output")
        done = cli("infer", tmp_path, "--output", place)
        assert done.returncode in (1, 2)
        assert done.stderr.count("\n") == 1


def test_other_folders_are_places(bundle: Path, tmp_path: Path) -> None:
    check_outside(bundle.parent / "results.csv", "--output")
    check_outside(bundle, "--output", replaces=True)  # as build --force does
    with pytest.raises(UsageError):
        check_outside(bundle / "other", "--output", replaces=True)
    for text in ('{"name": "a web page"}', "[1]", "no JSON", json.dumps({"schema": 1, "kind": "eval"})):
        (tmp_path / "manifest.json").write_text(text)
        check_outside(tmp_path / "results.csv", "--output")
