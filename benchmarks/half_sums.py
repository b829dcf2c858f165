"""How far FP16 embeddings drift where products are summed in float32, and where they are summed in half.

    python benchmarks/half_sums.py [--backbone vit_b16 ...] [--json FILE]

Untrained weights, the reference views of a build, simulated by PyTorch on the CPU. The parity gate's tolerance for FP16
(`glass_rt.inference.parity`) is one and a half times the worst figure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from glass_export.half.half_sums import summed_in_half
from glass_export.half.precision import HALF_DTYPES, measurable, narrowed, prepared
from glass_export.half.probe_views import seeded_views
from glass_export.half.range_probe import probe_ranges
from glass_export.portable import ExportOptions, _split, prepare_export
from glass_export.reference import reference_values
from torch import nn

from glass_rt.inference.head import Head
from glass_rt.inference.parity import _logits
from glass_rt.machine.environment import cpu_name

BACKBONES = ("vit_b16", "convnext_tiny", "resnet50", "resnet18", "mobilenet_v3_small")
IMAGES, CROPS = 3, 4  # of the reference views; ViT's take most of the time


def drift(backbone: str) -> dict[str, Any]:
    """Relative L2 of the worst embedding, and the largest difference of a logit, for both kinds of sums."""
    export = prepare_export(ExportOptions(backbone=backbone))
    reference = reference_values(export.module, CROPS - IMAGES + 1)
    embedders, parameters = _split(export.module)
    head = Head.for_model(export.model, parameters)
    graphs = {}
    for role, embedder in embedders.items():
        exact = prepared(embedder)
        ranges = probe_ranges(exact, seeded_views(), "fp16", "seeded views")
        graphs[role] = narrowed(exact, HALF_DTYPES["fp16"], ranges.widened, ranges.widened_streams)
    found = {}
    for name, summed in (("float32 sums", measurable), ("half sums", summed_in_half)):
        found[name] = _distance({role: summed(graph) for role, graph in graphs.items()}, head, reference)
    return found


def _distance(graphs: Mapping[str, nn.Module], head: Head, reference: Mapping[str, Any]) -> dict[str, float]:
    embeddings, worst = {}, 0.0
    for role, graph in graphs.items():
        views = torch.from_numpy(reference["global_views" if role == "global" else "crops"])
        with torch.no_grad():
            embeddings[role] = torch.cat([graph(view[None]) for view in views]).numpy()
        expected = reference[f"{role}_embeddings"]
        apart = np.linalg.norm(embeddings[role] - expected, axis=1) / np.linalg.norm(expected, axis=1)
        worst = max(worst, float(apart.max()))
    logits = _logits(head, embeddings, reference["offsets"])
    return {"embedding": worst, "logits": float(np.abs(logits - reference["logits"]).max())}


@click.command()
@click.option("--backbone", "backbones", multiple=True, default=BACKBONES, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(backbones: tuple[str, ...], json_path: Path | None) -> None:
    """Simulate both."""
    found = {}
    for backbone in backbones:
        found[backbone] = drift(backbone)
        for name, figures in found[backbone].items():
            print(
                f"{backbone}, {name}: embedding {figures['embedding']:.2e}, logits {figures['logits']:.2e}", flush=True
            )
    if json_path is not None:
        record = {"cpu": cpu_name(), "torch": torch.__version__, "weights": "untrained"}
        json_path.write_text(json.dumps({**record, "backbones": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
