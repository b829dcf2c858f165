"""One optimiser step: the loss of a batch in parts, its gradients, and what happens when it is no number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from glass_rt.errors import TrainingError
from glass_train.data.loader import Batch
from glass_train.recipe import Recipe

_NAMED = 6


class Devices(Protocol):
    """What a step needs of Lightning Fabric."""

    device: torch.device
    world_size: int

    def backward(self, loss: Tensor) -> None:
        """Adds to the gradients."""

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> Any:
        """A block in which processes do not exchange gradients."""

    def clip_gradients(self, module: nn.Module, optimizer: Any, *, max_norm: float) -> Any:
        """Scales the gradients down to a norm."""

    def all_reduce(self, data: Any, *, reduce_op: str = "mean") -> Any:
        """The mean over the processes."""


@dataclass(frozen=True)
class StepResult:
    """The loss, averaged over the batch's images of all processes, before the step."""

    loss: float


def train_step(
    fabric: Devices, module: nn.Module, optimiser: Any, batch: Batch, recipe: Recipe, *, local_only: bool = False
) -> StepResult:
    """Computes the batch in `recipe.accumulate` parts and steps once. Raises TrainingError where the loss is no number.

    The gradients are those of the mean loss over the whole batch, however it is divided. After that error nothing has
    been stepped.
    """
    module.train()
    optimiser.zero_grad()
    parts = np.array_split(np.arange(len(batch.labels)), min(recipe.accumulate, len(batch.labels)))
    losses = []
    for number, rows in enumerate(parts):
        with fabric.no_backward_sync(module, enabled=number + 1 < len(parts)):
            of_images = _losses(fabric, module, batch, rows, recipe, local_only)
            losses.append(of_images.detach())
            fabric.backward(of_images.sum() / len(batch.labels))
    each = torch.cat(losses)
    mean = float(fabric.all_reduce(each.mean(), reduce_op="mean"))
    if not np.isfinite(mean):
        raise TrainingError(_not_finite(batch, each.float().cpu().numpy()))
    if recipe.clip is not None:
        fabric.clip_gradients(module, optimiser, max_norm=recipe.clip)
    optimiser.step()
    return StepResult(mean)


def _losses(
    fabric: Devices, module: nn.Module, batch: Batch, rows: NDArray[np.int64], recipe: Recipe, local_only: bool
) -> Tensor:
    """(len(rows),) the loss of each image: its own, and its crops' by the aid."""
    labels = torch.from_numpy(batch.labels[rows]).to(fabric.device)
    views = (torch.from_numpy(array[rows]).to(fabric.device) for array in (batch.global_views, batch.crops))
    logits, by_crop = module(*views, local_only)
    total: Tensor = torch.zeros(len(rows), device=fabric.device)
    if logits is not None:
        total = total + functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=recipe.label_smoothing
        )
    if by_crop is not None:
        weight = 1.0 if local_only else recipe.crop_loss
        crops = by_crop.shape[1]
        each = functional.cross_entropy(
            by_crop.flatten(0, 1),
            labels.repeat_interleave(crops),
            reduction="none",
            label_smoothing=recipe.label_smoothing,
        )
        total = total + weight * each.reshape(-1, crops).mean(dim=1)
    return total


def _not_finite(batch: Batch, losses: NDArray[np.float32]) -> str:
    bad = [name for name, loss in zip(batch.names, losses.tolist(), strict=True) if not np.isfinite(loss)]
    named = bad or list(batch.names)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"the loss is not a number for {', '.join(named[:_NAMED])}{more}"
