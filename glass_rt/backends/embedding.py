"""Views to embeddings: one engine run in batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from glass_rt.backends import Backend
from glass_rt.backends.base import Floats, Submits
from glass_rt.errors import BackendError

INPUT, OUTPUT = "pixels", "embedding"


def start_embedding(
    engine: Backend, pixels: NDArray[np.uint8] | NDArray[np.float32], batch: int
) -> Callable[[], Floats]:
    """Starts `embed`; the returned function waits for it. An engine that is not `Submits` runs before this returns."""
    if not isinstance(engine, Submits):
        embeddings = embed(engine, pixels, batch)
        return lambda: embeddings
    wait = engine.submit({INPUT: pixels})
    return lambda: wait()[OUTPUT]


def embed(engine: Backend, pixels: NDArray[np.uint8] | NDArray[np.float32], batch: int) -> Floats:
    """Embeddings float32 (N, D) of views (N, size, size, 3), in runs of at most `batch`."""
    chunks = []
    for start in range(0, len(pixels), batch):
        chunk = pixels[start : start + batch]
        embedding = engine.run({INPUT: chunk})[OUTPUT]
        if embedding.ndim != 2 or len(embedding) != len(chunk):
            raise BackendError(
                f"the engine gave {embedding.shape} for a batch of {len(chunk)}: its batch size is fixed"
            )
        chunks.append(embedding)
    return np.concatenate(chunks) if len(chunks) != 1 else chunks[0]
