"""The quick way: frozen backbones, whose embeddings are computed once; only the head is trained, in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from glass_export.backbone import Scaling
from glass_export.model import Glass, normalise
from numpy.typing import NDArray
from torch import Tensor, nn

from glass_rt.errors import TrainingError
from glass_train.data.examples import Example, Examples
from glass_train.data.loader import batches
from glass_train.data.order import Draw
from glass_train.model.start import AnyModel
from glass_train.recipe import Recipe

VIEWS_AT_ONCE = 32  # images


@dataclass(frozen=True, eq=False)
class Embedded:
    """Examples whose views are embeddings: `turns` of every image, taken one after the other.

    `whole` float32 (T, N, D), `local` float32 (T, N, K, D).
    """

    labels: NDArray[np.int64]
    pairs: Sequence[str | None]
    names: tuple[str, ...]
    whole: NDArray[np.float32]
    local: NDArray[np.float32]

    def name(self, index: int) -> str:
        """The image's name."""
        return self.names[index]

    def example(self, index: int, turn: int | None) -> Example:
        """The embeddings of a turn."""
        at = (turn or 0) % len(self.whole)
        return Example(self.whole[at, index], self.local[at, index])


def quick_recipe(recipe: Recipe) -> Recipe:
    """The recipe with frozen backbones, which need no help for their first layers."""
    return replace(recipe, freeze=tuple({*recipe.freeze, "global", "local"}), local_first=0, crop_loss=0.0)


def embedded(fabric: Any, model: AnyModel, examples: Examples, turns: Sequence[int | None], workers: int) -> Embedded:
    """Computes the embeddings of every image in every turn. Raises TrainingError for an image that cannot be read."""
    model = model.to(fabric.device).eval()
    count = len(examples.labels)
    whole, local = [], []
    for turn in turns:
        order: list[list[Draw | int]] = [
            [index if turn is None else Draw(index, turn) for index in range(start, min(start + VIEWS_AT_ONCE, count))]
            for start in range(0, count, VIEWS_AT_ONCE)
        ]
        with torch.inference_mode(), fabric.autocast():
            rows = [
                _embed(fabric, model, batch.global_views, batch.crops) for batch in _whole(examples, order, workers)
            ]
        whole.append(np.concatenate([one for one, _ in rows]))
        local.append(np.concatenate([one for _, one in rows]))
    names = tuple(examples.name(index) for index in range(count))
    return Embedded(examples.labels, examples.pairs, names, np.stack(whole), np.stack(local))


def _whole(examples: Examples, order: Sequence[Sequence[Draw | int]], workers: int) -> Any:
    """Batches in which every image could be read; else the error of the first that could not."""
    for batch in batches(examples, order, workers):
        if batch.failed:
            name, reason = batch.failed[0]
            raise TrainingError(f"{name} cannot be read any longer: {reason}")
        yield batch


def _embed(
    fabric: Any, model: AnyModel, views: NDArray[Any], crops: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(B, S, S, 3) and (B, K, S, S, 3) -> (B, D) and (B, K, D)"""
    if not isinstance(model, Glass):
        embedder, _ = model.split()
        whole = _run(embedder.eval(), fabric, views, model.scaling)
        return whole, np.empty((len(whole), 0, whole.shape[1]), np.float32)
    local = _run(model.local_model, fabric, crops.reshape(-1, *crops.shape[2:]), model.scaling)
    return _run(model.global_model, fabric, views, model.scaling), local.reshape(*crops.shape[:2], -1)


def _run(module: nn.Module, fabric: Any, pixels: NDArray[Any], scaling: Scaling) -> NDArray[np.float32]:
    found: Tensor = module(normalise(torch.from_numpy(pixels).to(fabric.device), scaling))
    result: NDArray[np.float32] = found.float().cpu().numpy()
    return result
