"""What a training step costs: seconds, images/s and memory of one optimiser step on random views.

python benchmarks/training_cost.py mobilenet_v3_small --batch 8 --crops 4 --json benchmarks/results/training_cost.json

The loader's images/s, with and without deliveries, are those of delivery_cost.py. Each backbone is measured in a
process of its own, so that the memory is its own: the peak of the process less what it held before the model was made.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from glass_export.backbones import find_backbone
from glass_train.data.loader import Batch
from glass_train.loop.devices import make_fabric
from glass_train.loop.optimiser import make_optimiser
from glass_train.loop.step import train_step
from glass_train.model.module import Trained
from glass_train.model.start import NONE, start_model
from glass_train.recipe import default_recipe

from glass_rt.machine.environment import cpu_name, gpus, usable_cores

WARM_UP = 2  # steps


def random_batch(images: int, crops: int) -> Batch:
    """Views of no picture."""
    generator = np.random.Generator(np.random.PCG64(606))
    return Batch(
        tuple(map(str, range(images))),
        np.arange(images) % 2,
        generator.uniform(0, 255, (images, 224, 224, 3)).astype(np.float32),
        generator.integers(0, 256, (images, crops, 224, 224, 3), dtype=np.uint8),
        (),
    )


def peak_bytes() -> int:
    """The most memory that this process has held: on the GPU where it has used one, else in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB


def measure(backbone: str, options: argparse.Namespace) -> dict[str, object]:
    """The figures of one backbone."""
    row = find_backbone(backbone)
    recipe = replace(
        default_recipe(row, "glass", pretrained=False),
        batch=options.batch, crops=options.crops, accumulate=options.accumulate, precision=options.precision,
    )  # fmt: skip
    batch, before = random_batch(recipe.batch, recipe.crops), peak_bytes()
    fabric = make_fabric(recipe, None, 1)
    module = Trained(start_model(row, "glass", NONE, recipe, 606), row).to(memory_format=torch.channels_last)
    wrapped, optimiser = fabric.setup(module, make_optimiser(module, recipe))
    seconds, processor = [], 0.0
    for step in range(WARM_UP + options.steps):
        start, used = perf_counter(), process_time()
        train_step(fabric, wrapped, optimiser, batch, recipe)  # reads the loss, so that a GPU has ended its work
        if step >= WARM_UP:
            seconds.append(perf_counter() - start)
            processor += process_time() - used
    return {
        "backbone": backbone,
        "batch": recipe.batch,
        "crops": recipe.crops,
        "accumulate": recipe.accumulate,
        "precision": recipe.precision,
        "device": str(fabric.device),
        "steps": options.steps,
        "seconds_median": float(np.median(seconds)),
        "processor_seconds_mean": processor / options.steps,
        "images_per_second": recipe.batch / float(np.median(seconds)),
        "peak_bytes": peak_bytes() - before,
    }


def main() -> None:
    """Measures every backbone in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.backbones[0], options)))
        return
    rows = []
    for backbone in options.backbones:
        shared = [
            f"--{name}={getattr(options, name)}" for name in ("batch", "crops", "accumulate", "precision", "steps")
        ]
        done = subprocess.run(
            [sys.executable, __file__, backbone, *shared, "--here"], stdout=subprocess.PIPE, check=True
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    machine = {"cpu": cpu_name(), "cores": usable_cores(), "gpus": [gpu.name for gpu in gpus()]}
    text = json.dumps({"kind": "training_cost", "machine": machine, "torch": torch.__version__, "rows": rows}, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
