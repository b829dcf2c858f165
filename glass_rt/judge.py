"""A pack of views to one judgement per image: engines, then head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from glass_rt.aggregator import Floats, Head, HeadOutput
from glass_rt.backends import Backend
from glass_rt.backends.base import Submits
from glass_rt.errors import BackendError
from glass_rt.pack import Pack

INPUT, OUTPUT = "pixels", "embedding"


@dataclass(frozen=True, eq=False)
class Judgement:
    """The head's output for one image, and its share of the time: `engine_ms` by views, `aggregate_ms` measured."""

    output: HeadOutput
    engine_ms: float
    aggregate_ms: float


class Judge:
    """Opened engines by role (`global`, and `local` for the GLASS architecture) and the head behind them."""

    def __init__(self, engines: Mapping[str, Backend], head: Head, batch: int) -> None:
        self._engines = engines
        self._head = head
        self._batch = batch

    def judge(self, pack: Pack) -> list[Judgement]:
        """One judgement per slot of the pack, in order. Raises BackendError."""
        start = perf_counter()
        # An engine that can be left to itself works on the whole images while the crops are started.
        waiting = start_embedding(self._engines["global"], pack.global_views, self._batch)
        if "local" in self._engines:
            local_embeddings = start_embedding(self._engines["local"], pack.crops, self._batch)()
            global_embeddings = waiting()
        else:
            global_embeddings = waiting()
            local_embeddings = np.empty((0, global_embeddings.shape[1]), np.float32)
        per_view_ms = (perf_counter() - start) * 1e3 / (len(pack.slots) + pack.num_crops)
        judgements = []
        for slot, embedding in zip(pack.slots, global_embeddings, strict=True):
            start = perf_counter()
            owned = slice(slot.crop_range.start, slot.crop_range.stop)
            output = self._head.judge(embedding, local_embeddings[owned])
            aggregate_ms = (perf_counter() - start) * 1e3
            judgements.append(Judgement(output, per_view_ms * (1 + len(slot.crop_range)), aggregate_ms))
        return judgements

    def close(self) -> None:
        """Closes the engines."""
        for engine in self._engines.values():
            engine.close()


def start_embedding(
    engine: Backend, pixels: NDArray[np.uint8] | NDArray[np.float32], batch: int
) -> Callable[[], Floats]:
    """Begins what `embed` does; the function returned waits for it. Engines that cannot be left run here and now."""
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
