"""`glass-rt export`: a checkpoint to a portable model. PyTorch is imported when the command runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from glass_rt.bundle.manifest import to_json
from glass_rt.cli.model_options import ModelChoice, model_options
from glass_rt.cli.options import json_option, quiet_option
from glass_rt.cli.output_path import OutputPath
from glass_rt.errors import MissingDependency
from glass_rt.progress import reporter, silent


@click.command(short_help="Turn a checkpoint into a portable model.")
@model_options
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    multiple=True,
    default=["fp32"],
    show_default=True,
    help="Of the graphs; may be given several times.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Images over which the ranges of 16-bit graphs are probed.  [default: seeded views]",
)
@click.option("--fused", is_flag=True, help="Also write all of GLASS as one graph, glass.onnx.")
@click.option("--output", type=OutputPath(replaces=True), metavar="DIR", required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
@quiet_option
def export(
    model: ModelChoice,
    precisions: tuple[str, ...],
    calibration: Path | None,
    fused: bool,
    output: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Export a checkpoint as a portable model: ONNX graphs, head, and reference values for the parity gate.

    A portable model is built into an engine anywhere, without PyTorch: glass-rt build --from DIR.
    """
    try:
        from glass_export.portable import ExportOptions, export_portable
    except ImportError as error:
        raise MissingDependency(error.name or "torch", "export", "the export stage") from error
    options = ExportOptions(**model.for_export(), precisions=precisions, fused=fused, calibration=calibration)
    stage = silent if quiet else reporter()
    portable = export_portable(options, output, force=force, stage=stage)
    if as_json:
        click.echo(json.dumps(to_json(portable.manifest), indent=2))
    else:
        click.echo(f"portable model of {portable.manifest.model.name}: {output}")
    return 0
