"""Weights for engines that are built to be measured, not believed: a fixed rule from names and shapes alone.

torchvision's start values would do for most layers, but they hide whole blocks (ConvNeXt's layer scale starts at
1e-6), so that an engine with a block missing would pass every comparison. Under this rule every layer matters.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor, nn

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def untrained_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of the parameter or statistic `name`: float32, except `num_batches_tracked` (int64 zeros)."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = torch.from_numpy(np.asarray(generator.standard_normal(shape, dtype=np.float32)))
    if leaf == "running_mean":
        return 0.1 * noise
    if leaf == "running_var":
        return 1 + 0.1 * noise.abs()
    if leaf == "layer_scale":
        return 0.1 + 0.02 * noise
    if leaf in ("class_token", "pos_embedding") or leaf.endswith("bias"):
        return 0.02 * noise
    if len(shape) == 1:  # weight of a normalisation layer
        return 1 + 0.1 * noise
    fan_in = math.prod(shape[1:])
    return noise * float(np.float32(math.sqrt(1.5 / fan_in)))


def fill_untrained(module: nn.Module, prefixes: tuple[str, ...] = ("",)) -> None:
    """Overwrites, in place, parameters and batch statistics whose names start with one of `prefixes`.

    Other buffers (tables of positions, fixed filters) follow from the model itself and stay as they are.
    """
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            learned = name in parameters or name.rsplit(".", 1)[-1] in _STATISTICS
            if learned and name.startswith(prefixes):
                tensor.copy_(untrained_tensor(name, tuple(tensor.shape)))
