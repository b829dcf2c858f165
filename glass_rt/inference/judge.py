"""A pack of views to one judgement per image: engines, then head.

Adaptive use of K (`crops auto`, a departure from the K that the weights were trained with): a third of the crops is
looked at first; an image whose probability is further from the threshold than `margin` jackknife standard errors over
its crops is done, the others get the next third. The boxes of the maximum were drawn before, and are used by prefix;
embeddings are kept, so that no crop is computed twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from glass_rt.aggregator import Floats, Head, HeadOutput, mean_of_draws
from glass_rt.backends import Backend
from glass_rt.backends.base import Submits
from glass_rt.errors import BackendError
from glass_rt.pack import Pack, Slot

INPUT, OUTPUT = "pixels", "embedding"
ROUNDS = 3  # in which `crops auto` adds crops


@dataclass(frozen=True)
class Stopping:
    """When `crops auto` has seen enough: |P(fake) - threshold| > margin x standard error."""

    fake_index: int
    threshold: float
    margin: float

    def enough(self, output: HeadOutput) -> bool:
        """Whether more crops could hardly change the label."""
        distance = abs(float(output.probabilities[self.fake_index]) - self.threshold)
        return distance > self.margin * jackknife_error(output.without[:, self.fake_index])


@dataclass(frozen=True, eq=False)
class Judgement:
    """The head's output for one image, over its first `used` crops, and its share of the time.

    `engine_ms` is the batch's time divided by views, `aggregate_ms` was measured. `draws` holds the probability of
    each independent sampling, float32 (R, 2).
    """

    output: HeadOutput
    draws: Floats
    used: int
    engine_ms: float
    aggregate_ms: float


class Judge:
    """Opened engines by role (`global`, and `local` for the GLASS architecture) and the head behind them."""

    def __init__(self, engines: Mapping[str, Backend], head: Head, batch: int) -> None:
        self._engines = engines
        self._head = head
        self._batch = batch
        self._engines_in_use = threading.Lock()

    def judge(self, pack: Pack) -> list[Judgement]:
        """One judgement per slot of the pack, in order; over as few crops as a slot's `stopping` wants, if it has one.

        From any thread; one pack at a time. Raises BackendError.
        """
        with self._engines_in_use:
            adaptive = any(slot.stopping is not None for slot in pack.slots)
            return self._judge_enough(pack) if adaptive else self._judge_all(pack)

    def _judge_all(self, pack: Pack) -> list[Judgement]:
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
        return [
            self._conclude(
                slot,
                embedding,
                local_embeddings[slot.crop_range.start : slot.crop_range.stop],
                per_view_ms * (1 + len(slot.crop_range)),
            )
            for slot, embedding in zip(pack.slots, global_embeddings, strict=True)
        ]

    def _judge_enough(self, pack: Pack) -> list[Judgement]:
        start = perf_counter()
        global_embeddings = embed(self._engines["global"], pack.global_views, self._batch)
        engine_ms = [(perf_counter() - start) * 1e3 / len(pack.slots)] * len(pack.slots)
        known = [np.empty((0, global_embeddings.shape[1]), np.float32) for _ in pack.slots]
        found: dict[int, Judgement] = {}
        for round_number in range(1, ROUNDS + 1):
            open_ones = [index for index in range(len(pack.slots)) if index not in found]
            wanted = {index: _up_to(pack.slots[index], round_number, len(known[index])) for index in open_ones}
            rows = np.array([row for index in open_ones for row in wanted[index]], np.intp)
            start = perf_counter()
            embeddings = embed(self._engines["local"], pack.crops[rows], self._batch) if len(rows) else None
            crop_ms = (perf_counter() - start) * 1e3 / max(1, len(rows))
            taken = 0
            for index in open_ones:
                slot, count = pack.slots[index], len(wanted[index])
                if embeddings is not None:
                    known[index] = np.concatenate([known[index], embeddings[taken : taken + count]])
                taken += count
                engine_ms[index] += crop_ms * count
                judgement = self._conclude(slot, global_embeddings[index], known[index], engine_ms[index])
                last = len(known[index]) == len(slot.crop_range)
                if last or slot.stopping is None or slot.stopping.enough(judgement.output):
                    found[index] = judgement
        return [found[index] for index in range(len(pack.slots))]

    def _conclude(self, slot: Slot, global_embedding: Floats, local_embeddings: Floats, engine_ms: float) -> Judgement:
        start = perf_counter()
        outputs = [self._head.judge(global_embedding, draw) for draw in np.split(local_embeddings, slot.draws)]
        draws = np.stack([output.probabilities for output in outputs])
        aggregate_ms = (perf_counter() - start) * 1e3
        return Judgement(mean_of_draws(outputs), draws, len(local_embeddings), engine_ms, aggregate_ms)

    def close(self) -> None:
        """Closes the engines, after the pack at work."""
        with self._engines_in_use:
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


def jackknife_error(without: Floats) -> float:
    """Standard error of a probability over K crops, from its K leave-one-out values (Efron, 1982, chapter 3)."""
    count = len(without)
    if count < 2:
        return float("inf")
    spread = np.square(without - without.mean()).sum()
    return float(np.sqrt((count - 1) / count * spread))


def _up_to(slot: Slot, round_number: int, known: int) -> range:
    """The crops of the pack that this round adds for an image: all of them where nothing may stop it early."""
    total = len(slot.crop_range)
    target = total if slot.stopping is None else min(total, max(2, -(-total * round_number // ROUNDS)))
    return slot.crop_range[known:target]
