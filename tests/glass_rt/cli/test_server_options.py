"""The options of `serve` that say what the server allows."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from glass_rt.cli.options import run_options
from glass_rt.cli.server_options import server_options
from glass_rt.options import RunOptions
from glass_rt.serve.settings import ServerSettings

MB = 1 << 20


@click.command()
@server_options
@run_options
def allowing(settings: ServerSettings, run: RunOptions) -> None:
    click.echo(f"{settings.max_body} {settings.queue_bytes}")


@pytest.mark.parametrize(
    ("given", "max_body", "queue"),
    [
        (["--queue-bytes", "300M"], 64, 300),
        (["--queue-bytes", "1.5GiB", "--memory", "1g"], 64, 1536),  # what is said holds
        (["--memory", "1g"], 64, 256),
        (["--memory", "512Mi"], 64, 128),
        (["--memory", "256m"], 32, 32),  # of a small memory an eighth: images have to fit beside engines and bodies
        (["--max-body", "8M", "--memory", "128m"], 8, 16),
        (["--max-body", "64M", "--memory", "128m"], 64, 64),  # one body, since it is asked for
        (["--queue-bytes", "300M", "--memory", "128m"], 16, 300),
    ],
)
def test_the_queue_follows_the_memory(given: list[str], max_body: int, queue: int) -> None:
    done = CliRunner().invoke(allowing, given)
    assert done.output == f"{max_body * MB} {queue * MB}\n"


@pytest.mark.parametrize("text", ["0", "x", "1X", "", "-1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    done = CliRunner().invoke(allowing, ["--queue-bytes", text])
    assert done.exit_code == 2
    assert "is no size" in done.output
