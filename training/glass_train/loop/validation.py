"""How good the weights are: each tier of degraded validation images by itself, and the worst of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from glass_rt.errors import TrainingError
from glass_train.data.examples import Examples
from glass_train.data.loader import batches
from glass_train.figures import auc


@dataclass(frozen=True)
class TierScore:
    """Figures of one tier: mean loss (no smoothing), accuracy at 0.5, and AUC with `fake` as the positive class."""

    loss: float
    accuracy: float
    auc: float


@dataclass(frozen=True)
class Validation:
    """Scores by tier; `rank` compares two validations: the AUC of the worst tier, then its loss."""

    tiers: Mapping[str, TierScore]

    @property
    def worst(self) -> str:
        """The tier with the lowest AUC, and of several that with the highest loss."""
        return min(self.tiers, key=lambda tier: self._rank_of(tier))

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better."""
        return self._rank_of(self.worst)

    def _rank_of(self, tier: str) -> tuple[float, float]:
        score = self.tiers[tier]
        return score.auc, -score.loss


def validate(
    fabric: Any,
    module: nn.Module,
    tiers: Mapping[str, Examples],
    batch: int,
    workers: int,
    *,
    local_only: bool = False,
    rank: int = 0,
) -> Validation:
    """Judges every tier's images by `module`, which no library has wrapped; several processes share the work.

    `local_only`: by the mean over the crops' aid. Raises TrainingError where the weights give no numbers, and where a
    class has no image left that can be read.
    """
    module.eval()
    scores = {}
    for tier, examples in tiers.items():
        logits, labels = predict(fabric, module, examples, batch, workers, local_only=local_only, rank=rank)
        if len(set(labels.tolist())) < 2:
            raise TrainingError(f"validation has no images of both classes ({tier}) that can still be read")
        loss = float(functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
        margin = (logits[:, 0] - logits[:, 1]).astype(np.float64)
        if not np.isfinite(margin).all():
            raise TrainingError(f"the model gives no number for validation images ({tier}): its weights are broken")
        accuracy = float(((margin >= 0) == (labels == 0)).mean())
        scores[tier] = TierScore(loss, accuracy, auc(labels == 0, margin))
    return Validation(scores)


def predict(
    fabric: Any, module: nn.Module, examples: Examples, batch: int, workers: int, *, local_only: bool, rank: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits float32 (N, 2) and labels (N,) of the images that could be read, in their order."""
    order: Sequence[Sequence[int]] = [
        list(range(start, min(start + batch, len(examples.labels)))) for start in range(0, len(examples.labels), batch)
    ]
    found: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    mine = [rows for number, rows in enumerate(order) if number % fabric.world_size == rank]
    with torch.inference_mode(), fabric.autocast():
        for one in batches(examples, mine, workers):
            if len(one.labels):
                views = (torch.from_numpy(array).to(fabric.device) for array in (one.global_views, one.crops))
                logits, by_crop = module(*views, local_only)
                chosen: Tensor = by_crop.mean(dim=1) if logits is None else logits
                found.append((chosen.float().cpu().numpy(), one.labels))
    logits_of = np.concatenate([logits for logits, _ in found]) if found else np.empty((0, 2), np.float32)
    labels_of = np.concatenate([labels for _, labels in found]) if found else np.empty(0, np.int64)
    return _of_all(fabric, logits_of, labels_of)


def _of_all(
    fabric: Any, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What all processes found, in the same order in each of them."""
    if fabric.world_size == 1:
        return logits, labels
    everything: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(everything, (logits, labels))
    return np.concatenate([one for one, _ in everything]), np.concatenate([one for _, one in everything])
