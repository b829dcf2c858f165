"""`glass-rt build`: a checkpoint, or a portable model, to an engine bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from glass_engines.build import (
    DEFAULT_MAX_BATCH,
    INT8_TOLERANCE,
    BuildOptions,
    ModelToExport,
    build_bundle,
    prepare_export,
)
from glass_engines.registry import choose_backend, choose_precision, find_compiler
from glass_engines.trt.options import trt_options
from glass_engines.trt.settings import TrtSettings
from glass_rt.bundle.bundle import DEFAULT_FOLDER, PortableModel
from glass_rt.bundle.folder import check_target
from glass_rt.bundle.manifest import PRECISIONS, BundleManifest, to_json
from glass_rt.bundle.outside import check_outside
from glass_rt.cli.model_options import ModelChoice, model_options
from glass_rt.cli.options import json_option, quiet_option
from glass_rt.cli.output_path import OutputPath
from glass_rt.errors import UsageError
from glass_rt.progress import reporter, silent
from glass_rt.results.verdict import UNTRAINED_BUNDLE


@click.command(short_help="Turn a checkpoint or a portable model into a bundle.")
@model_options
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Portable model, or a bundle that carries one; needs neither checkpoint nor PyTorch.",
)
@click.option(
    "--backend",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, onnxruntime, openvino, tensorrt or tensorrt_rtx.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Precision of the engines.  [default: fp16 for TensorRT, else fp32]",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    metavar="N",
    help="Most views in one run of an engine.  [default: 64, or the profile's]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Images that INT8 is calibrated on, or over which ranges of 16-bit graphs are probed.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    default=INT8_TOLERANCE,
    show_default=True,
    metavar="X",
    help="INT8: accepted relative distance of an embedding from float32.",
)
@trt_options
@click.option("--slim", is_flag=True, help="Leave the portable model out: smaller, but bound to this build.")
@click.option(
    "--output", type=OutputPath(replaces=True), metavar="DIR", help="Folder to write.  [default: bundles/<model>]"
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@json_option
@quiet_option
def build(
    model: ModelChoice,
    source: Path | None,
    backend: str,
    precision: str | None,
    max_batch: int | None,
    calibration: Path | None,
    tolerance: float,
    trt: TrtSettings,
    slim: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Build an engine bundle, exporting first where needed; it ends with the parity gate.

    The engines must compute what PyTorch computes, or nothing is written. Without --weights the model is untrained:
    good for measuring, not for judging.
    """
    backend = choose_backend(backend)
    precision = choose_precision(precision, backend)
    trt = replace(trt, max_batch=max_batch)
    options = BuildOptions(backend, precision, max_batch or DEFAULT_MAX_BATCH, slim, trt, calibration, tolerance)
    compiler = find_compiler(backend, precision, trt)  # before anything takes time
    stage = silent if quiet else reporter()
    if source is not None:
        given = {**vars(model), "calibration": calibration if precision != "int8" else None}
        if clash := [f"--{name}" for name, value in given.items() if value is not None]:
            raise UsageError(f"{', '.join(clash)}: cannot be chosen with --from; the portable model has them")
        portable: PortableModel | ModelToExport = PortableModel.open(source)
    else:
        if output is not None:
            check_target(output, force=force)
        precisions = compiler.graph_precisions(precision)
        portable = prepare_export(stage, **model.for_export(), precisions=precisions, calibration=calibration)
    target = output or DEFAULT_FOLDER / portable.model.name
    check_outside(target, "--output", replaces=True)
    check_target(target, force=force)
    remarks: list[str] = []
    bundle = build_bundle(portable, target, options, force=force, stage=stage, remark=remarks.append)
    for remark in remarks:
        click.echo(remark, err=True)
    if as_json:
        click.echo(json.dumps({**to_json(bundle.manifest), "bundle_sha256": bundle.sha256}, indent=2))
    else:
        _show(bundle.manifest, target)
    return 0


def _show(manifest: BundleManifest, target: Path) -> None:
    click.echo(f"bundle: {target}")
    if manifest.parity.status == "pending":
        click.echo(
            "parity: pending; these engines cannot run on this machine. Their first opening where they can "
            "compares them with PyTorch: glass-rt verify DIR",
            err=True,
        )
    if not manifest.model.weights.trained:
        click.echo(f"! {UNTRAINED_BUNDLE}", err=True)
