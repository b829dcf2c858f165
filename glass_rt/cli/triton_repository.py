"""`glass-rt triton`: a bundle as a model of the Triton Inference Server."""

from __future__ import annotations

from pathlib import Path

import click

from glass_rt.bundle.bundle import Bundle
from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.options import device_option, engine_option, expect_bundle_option, quiet_option
from glass_rt.cli.output_path import OutputPath
from glass_rt.serve.oip.protocol import model_name
from glass_rt.serve.triton.config import ServingOptions
from glass_rt.serve.triton.repository import write_model


@click.command(short_help="Put a bundle into a Triton model repository.")
@engine_option
@click.option(
    "--output",
    type=OutputPath(file_okay=False),
    required=True,
    metavar="REPO",
    help="Model repository.",
)
@device_option
@click.option(
    "--instances",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that judge; on GPUs, of each.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    metavar="N",
    help="Most images judged together, and most in one request.",
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="N",
    help="Requests that wait before more are refused.",
)
@click.option(
    "--environment",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Python environment of the model, as the server sees it.  [default: the server's own Python]",
)
@expect_bundle_option
@click.option("--force", is_flag=True, help="Replace the model where it is there already.")
@quiet_option
def triton(
    engine: Path | None,
    output: Path,
    device: str | None,
    instances: int,
    max_batch: int,
    queue: int,
    environment: Path | None,
    expect_bundle: str | None,
    force: bool,
    quiet: bool,
) -> int:
    """Add a bundle to a model repository of the Triton Inference Server.

    Writes REPO/MODEL with the bundle, a model for Triton's Python backend, a README with the start command, and
    canary.py, which tells whether the model is alive.
    """
    bundle = Bundle.open(chosen_bundle(engine), expect_sha256=expect_bundle, every_file=True)
    folder = write_model(bundle, output, ServingOptions(device, instances, max_batch, queue, environment), force=force)
    click.echo(folder)
    if not quiet:
        click.echo(
            f"start: tritonserver --model-repository={output} --model-control-mode=explicit "
            f"--load-model={model_name(bundle.manifest)}   (see {folder / 'README.md'})",
            err=True,
        )
    return 0
