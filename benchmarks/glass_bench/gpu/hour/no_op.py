"""A GLASS model whose engines do nothing, and what the pipeline needs around one: a bundle without files."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from glass_rt.backends.base import Array, Backend, TensorSpec
from glass_rt.backends.embedding import INPUT, OUTPUT
from glass_rt.bundle.manifest import BundleManifest, Engine, Model, Parity, Weights
from glass_rt.inference.head import Head, head_shapes
from glass_rt.inference.opened_bundle import OpenedBundle

DIM = 768


class NoOpBackend:
    """Embeddings of zeros, at once."""

    def __init__(self, dim: int, dtype: Any) -> None:
        self.inputs = (TensorSpec(INPUT, np.dtype(dtype), (None, 224, 224, 3)),)
        self.outputs = (TensorSpec(OUTPUT, np.dtype(np.float32), (None, dim)),)
        self._dim = dim

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One row per view."""
        return {OUTPUT: np.zeros((len(feeds[INPUT]), self._dim), np.float32)}

    def close(self) -> None:
        """Nothing is open."""


def model(dim: int = DIM) -> Model:
    """As ViT-B/16's, of no weights."""
    return Model(
        "vit_b16", "glass", "vit_b16", dim, ("fake", "real"), 224, 10, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
        Weights("none", "0" * 64, trained=False),
    )  # fmt: skip


def bundle(dim: int = DIM) -> Any:
    """As far as a pipeline looks at one."""
    engine = Engine("tensorrt", "fp16", "cuda", 64, {"global": "none", "local": "none"})
    manifest = BundleManifest(model(dim), engine, Parity("passed"), 0.5, {})
    return SimpleNamespace(manifest=manifest, sha256="0" * 64)


def opened(engines: Mapping[str, Backend], batch: int, dim: int = DIM) -> OpenedBundle:
    """Those engines under a head of small seeded numbers."""
    generator = np.random.default_rng(0)
    shapes = head_shapes("glass", dim)
    parameters = {name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    return OpenedBundle(bundle(dim), engines, Head.for_model(model(dim), parameters), batch)
