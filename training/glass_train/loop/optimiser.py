"""Optimiser, schedule and averaged weights: PyTorch's own, set as the recipe says."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from glass_train.model.module import Trained
from glass_train.recipe import ROLES, Recipe


def parameter_groups(module: Trained, recipe: Recipe) -> list[dict[str, Any]]:
    """One group a role, with the role's learning rate and weight decay; without parameters that are frozen."""
    roles = module.roles()
    groups = []
    for role, rate, decay in zip(ROLES, recipe.learning_rates, recipe.weight_decays, strict=True):
        learning = [parameter for parameter in roles.get(role, []) if parameter.requires_grad]
        if learning:
            groups.append({"params": learning, "lr": rate, "weight_decay": decay, "role": role})
    return groups


def make_optimiser(module: Trained, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the groups."""
    return torch.optim.AdamW(parameter_groups(module, recipe))


def make_schedule(optimiser: torch.optim.Optimizer, recipe: Recipe, steps: int) -> CosineAnnealingLR:
    """From each group's rate by a cosine to the final rate, over all steps of the run."""
    return CosineAnnealingLR(optimiser, steps, recipe.final_learning_rate)


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """A copy whose parameters follow those of `module`: after each step `decay` of the old and the rest of the new.

    The first step's parameters are taken whole. Buffers are copied: BatchNorm's are running averages already, and those
    of the newest weights.
    """
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
