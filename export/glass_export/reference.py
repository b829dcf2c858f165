"""Reference views, and PyTorch's float32 results for them, which every engine is compared with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glass_export.model import CROP_SIZE, Glass, ResizeOnly, normalise

SEED = 20260101


def reference_values(model: Glass | ResizeOnly, trained_crops: int) -> dict[str, NDArray[np.generic]]:
    """Three images' views with K, 1 and 2 crops, their embeddings and logits.

    Views are smooth structures with noise, coloured differently per channel: neither flat, so that every layer is
    exercised, nor alike under a swap of channels or axes. Keys: those of `glass_rt.inference.parity.check_parity`.
    """
    counts = (trained_crops, 1, 2) if isinstance(model, Glass) else (0, 0, 0)
    generator = np.random.Generator(np.random.PCG64(SEED))
    global_views = np.stack([texture(generator) for _ in counts])
    crops = np.empty((sum(counts), CROP_SIZE, CROP_SIZE, 3), np.uint8)
    for crop in crops:
        crop[...] = texture(generator).round()
    offsets = np.cumsum([0, *counts])
    with torch.no_grad():
        values = (
            _glass_values(model, global_views, crops, offsets)
            if isinstance(model, Glass)
            else _resize_values(model, global_views)
        )
    arrays: dict[str, NDArray[np.generic]] = {
        "global_views": global_views,
        "crops": crops,
        "offsets": offsets.astype(np.int64),
    }
    return {**arrays, **{name: tensor.numpy() for name, tensor in values.items()}}


def _glass_values(
    model: Glass, global_views: NDArray[np.float32], crops: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> dict[str, Tensor]:
    global_embeddings = model.global_model(normalise(torch.from_numpy(global_views), model.scaling))
    local_embeddings = model.local_model(normalise(torch.from_numpy(crops), model.scaling))
    logits = [
        model.pool(global_embeddings[i : i + 1], local_embeddings[offsets[i] : offsets[i + 1]][None])[0]
        for i in range(len(global_views))
    ]
    return {
        "global_embeddings": global_embeddings,
        "local_embeddings": local_embeddings,
        "logits": torch.cat(logits),
    }


def _resize_values(model: ResizeOnly, views: NDArray[np.float32]) -> dict[str, Tensor]:
    pixels = normalise(torch.from_numpy(views), model.scaling)
    logits = model(pixels)
    embedding, _ = model.split()
    return {"global_embeddings": embedding(pixels).flatten(1), "logits": logits}


def texture(generator: np.random.Generator) -> NDArray[np.float32]:
    """A smooth structure with noise: float32 (S, S, 3) in 0..255, RGB."""
    axis = np.linspace(0, 2 * np.pi, CROP_SIZE, dtype=np.float32)
    frequencies, phases = generator.uniform(0.5, 12, (3, 2)), generator.uniform(0, 2 * np.pi, (3, 2))
    waves = [
        np.sin(axis * fy + py)[:, None] * np.sin(axis * fx + px)[None, :]
        for (fy, fx), (py, px) in zip(frequencies, phases, strict=True)
    ]
    noise = generator.standard_normal((CROP_SIZE, CROP_SIZE, 3))
    levels = generator.uniform(60, 190, 3) + 50 * np.stack(waves, axis=-1) + 20 * noise
    texture: NDArray[np.float32] = np.clip(levels, 0, 255).astype(np.float32)
    return texture
