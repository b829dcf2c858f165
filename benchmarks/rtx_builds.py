"""FP16 and INT8 engines of every backbone, built by TensorRT for RTX: their cost, what the plans hold, and the drift.

    python benchmarks/rtx_builds.py IMAGES [--portables DIR] [--backbone NAME]... [--output DIR]

No GPU is needed. Measured is the engine for the whole image, with the batch sizes of the profile `rtx` (two
optimisation profiles). INT8 is calibrated on three quarters of IMAGES; drift is that of the Q/DQ graph from float32 on
the others, by ONNX Runtime on the CPU. Portable models under DIR, one folder a backbone, are used where they are there;
the others are exported first.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from glass_bench.gpu.measured_build import BACKEND, measured_build
from glass_bench.gpu.plan_text import attention_kernels, nodes_in_int8, norms_in_float32, plan_steps
from glass_engines.int8.calibration import CalibrationSet, calibration_set
from glass_engines.int8.int8_products import int8_products
from glass_engines.int8.quantise import symmetric_from_onnx
from glass_export.backbones import BACKBONES
from glass_export.portable import ExportOptions, export_portable

from glass_rt.backends import open_backend
from glass_rt.backends.embedding import INPUT, OUTPUT
from glass_rt.bundle.bundle import PortableModel
from glass_rt.machine.environment import cpu_name, usable_cores

ROLE = "global"


def portable_model(folder: Path, backbone: str) -> PortableModel:
    """The portable model of untrained weights in float32 and half, exported where it is not there."""
    target = folder / backbone
    if target.exists():
        return PortableModel.open(target)
    return export_portable(ExportOptions(backbone, "glass", precisions=("fp32", "fp16")), target)


def drift(exact: Path, narrow: Path, images: CalibrationSet) -> float:
    """The largest relative L2 distance of an embedding on the images kept out."""
    views = images.held_out.of(ROLE)
    expected, found = (
        np.concatenate([engine.run({INPUT: view[None]})[OUTPUT] for view in views])
        for engine in (open_backend("onnxruntime", graph) for graph in (exact, narrow))
    )
    distances = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return float(distances.max())


def built(graph: Path, products: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What the build cost, and what the plan holds."""
    engine = folder / f"{ROLE}.plan"
    cost = measured_build([(graph, engine)])
    steps = plan_steps(engine)
    norms = norms_in_float32(steps)
    return {
        **asdict(cost),
        "graph_bytes": graph.stat().st_size,
        "plan_bytes": engine.stat().st_size,
        "int8_products": len(nodes_in_int8(steps, products)),
        "attention_kernels": len({step.nodes for step in attention_kernels(steps)}),
        "layer_norms": len(norms),
        "layer_norms_in_float32": sum(norms.values()),
    }


def measured(model: PortableModel, images: CalibrationSet, folder: Path) -> dict[str, Any]:
    """One backbone in both precisions."""
    exact, half = (model.graph(precision, ROLE) for precision in ("fp32", "fp16"))
    narrow = folder / f"{ROLE}.int8.onnx"
    symmetric_from_onnx(half, images.calibrating.of(ROLE), narrow)
    products = int8_products(onnx.load(half).graph)
    return {
        "backbone": model.model.backbone,
        "role": ROLE,
        "images": {"calibrating": len(images.calibrating.wholes), "kept_out": len(images.held_out.wholes)},
        "products_meant_for_int8": len(products),
        "fp16": built(half, products, folder),
        "int8": built(narrow, products, folder),
        "int8_drift": drift(exact, narrow, images),
        "load_average": os.getloadavg()[0],
    }


@click.command()
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--portables", type=click.Path(path_type=Path, file_okay=False), help="Portable models, kept there.")
@click.option("--backbone", "backbones", multiple=True, type=click.Choice(list(BACKBONES)), help="[default: all]")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Write a file for each backbone there."
)
def main(images: Path, portables: Path | None, backbones: tuple[str, ...], output: Path | None) -> None:
    """Build every backbone in FP16 and INT8, calibrated on IMAGES."""
    views: CalibrationSet | None = None
    machine = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "versions": {name: version(name) for name in (BACKEND, "nncf", "onnx", "onnxruntime")},
    }
    with tempfile.TemporaryDirectory(prefix="rtx_builds-") as temporary:
        for backbone in backbones or tuple(BACKBONES):
            model = portable_model(portables or Path(temporary), backbone)
            views = views or calibration_set(images, model.model)  # whole views are the same for every backbone
            record = {**machine, **measured(model, views, Path(temporary))}
            print(json.dumps(record, indent=1), flush=True)
            if output is not None:
                output.mkdir(exist_ok=True)
                (output / f"{backbone}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
