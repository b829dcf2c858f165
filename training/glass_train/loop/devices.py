"""Lightning Fabric, set up: devices, mixed precision, several processes."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch

from glass_rt.errors import MissingDependency, UsageError
from glass_train.recipe import PRECISIONS, Recipe

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
except ImportError:
    raise MissingDependency("lightning-fabric", "train", "training") from None

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it says which precision it was asked for


def check_device(recipe: Recipe, device: str | None, devices: int) -> str:
    """`cpu` or `cuda`. Raises UsageError where there are too few, or where they lack the recipe's precision."""
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and torch.cuda.device_count() < devices:
        raise UsageError(f"devices: got {devices}; PyTorch finds {torch.cuda.device_count()} CUDA devices here")
    if kind == "cpu" and recipe.precision == "fp16":
        raise UsageError("precision: fp16 needs a GPU; on the CPU take bf16 or fp32")
    return kind


def make_fabric(recipe: Recipe, device: str | None, devices: int) -> Any:
    """Fabric for `devices` processes on `cpu` or `cuda` (None: CUDA where there is one).

    With several, the command starts the other processes itself, unless `torchrun` or a cluster has. Raises UsageError.
    """
    kind = check_device(recipe, device, devices)
    unused = bool(recipe.local_first)  # the global backbone has no gradients at first
    strategy = DDPStrategy(find_unused_parameters=unused) if devices > 1 else "auto"
    precision: Any = PRECISIONS[recipe.precision]
    fabric = Fabric(accelerator=kind, devices=devices, strategy=strategy, precision=precision)
    if devices > 1:
        fabric.launch()
    return fabric
