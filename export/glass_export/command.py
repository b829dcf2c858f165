"""`glass-rt export`: a checkpoint to a portable model. PyTorch is imported when the command runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from glass_rt.cli.options import json_option, quiet_option
from glass_rt.errors import MissingDependency
from glass_rt.manifest import ARCHITECTURES, to_json
from glass_rt.progress import reporter, silent


@click.command(short_help="A checkpoint to a portable model.")
@click.option("--backbone", metavar="NAME", help="vit_b16, resnet50, convnext_tiny, resnet18 or mobilenet_v3_small.")
@click.option("--architecture", type=click.Choice(ARCHITECTURES), help="[default: glass, or what the checkpoint is]")
@click.option(
    "--weights", metavar="FILE", help="Checkpoint (.pt, .pth, .safetensors), or `imagenet`.  [default: untrained]"
)
@click.option(
    "--classes", default="fake,real", show_default=True, help="Meaning of the checkpoint's two logits, in order."
)
@click.option(
    "--crops", type=click.IntRange(1), metavar="K", help="Crops it was trained with.  [default: the authors']"
)
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
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
@quiet_option
def export(
    backbone: str | None,
    architecture: str | None,
    weights: str | None,
    classes: str,
    crops: int | None,
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
    options = ExportOptions(
        backbone, architecture, weights, tuple(classes.split(",")), crops, precisions, fused, calibration
    )
    stage = silent if quiet else reporter()
    portable = export_portable(options, output, force=force, stage=stage)
    if as_json:
        click.echo(json.dumps(to_json(portable.manifest), indent=2))
    else:
        click.echo(f"portable model of {portable.manifest.model.name}: {output}")
    return 0
