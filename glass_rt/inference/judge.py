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
from typing import TypeAlias

import numpy as np

from glass_rt.backends.base import Floats, Submits
from glass_rt.backends.embedding import embed, start_embedding
from glass_rt.errors import BackendError
from glass_rt.inference.head import mean_of_draws
from glass_rt.inference.judgement import Judgement
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pack import Pack, Slot

Conclusion: TypeAlias = Callable[[], "list[Judgement | BackendError]"]

ROUNDS = 3  # in which `crops auto` adds crops


@dataclass(frozen=True)
class _Started:
    """Engines at work on a pack since `start`, and what waits for their embeddings."""

    start: float
    waiting: Mapping[str, Callable[[], Floats]]


class Judge:
    """Runs the engines and the head of an opened bundle, which it closes with itself."""

    def __init__(self, opened: OpenedBundle) -> None:
        self.opened = opened
        self._engines, self._head, self._batch = opened.engines, opened.head, opened.batch
        self._engines_in_use = threading.Lock()

    def judge(self, pack: Pack) -> list[Judgement | BackendError]:
        """One judgement per slot of the pack, in order; over as few crops as a slot's `stopping` wants, if it has one.

        Where the engines give an image numbers that are none, it has a BackendError in place of its judgement. From any
        thread; one pack at a time. Raises BackendError.
        """
        return self.start(pack)()()

    @property
    def overlaps(self) -> bool:
        """Whether the engines can be left to themselves, so that another pack can be started meanwhile."""
        return all(isinstance(engine, Submits) for engine in self._engines.values())

    def start(self, pack: Pack) -> Callable[[], Conclusion]:
        """Starts to judge a pack. The function returned waits for the engines, and gives the one that concludes.

        So another pack can be started between the two, and what `judge` gives comes from the last. Of a pack with a
        slot that stops early, and by engines that are not left to themselves, all is done by the first function. The
        pack must stay as it is until then. Raises BackendError, and so does that function.
        """
        if any(slot.stopping is not None for slot in pack.slots):
            return lambda: self._judged_enough(pack)
        started = self._start_engines(pack) if self.overlaps else None
        return lambda: self._embedded(pack, started or self._start_engines(pack))

    def _judged_enough(self, pack: Pack) -> Conclusion:
        with self._engines_in_use:
            judgements = self._judge_enough(pack)
        return lambda: judgements

    def _start_engines(self, pack: Pack) -> _Started:
        """Starts both engines; one that is not left to itself has run when this returns."""
        with self._engines_in_use:
            start, waiting = perf_counter(), {}
            for role, engine in self._engines.items():
                views = pack.crops if role == "local" else pack.global_views
                waiting[role] = start_embedding(engine, views, self._batch)
            return _Started(start, waiting)

    def _embedded(self, pack: Pack, started: _Started) -> Conclusion:
        with self._engines_in_use:
            embeddings = {role: wait() for role, wait in started.waiting.items()}
        per_view_ms = (perf_counter() - started.start) * 1e3 / (len(pack.slots) + pack.num_crops)
        return lambda: self._conclude_all(pack, embeddings, per_view_ms)

    def _conclude_all(
        self, pack: Pack, embeddings: Mapping[str, Floats], per_view_ms: float
    ) -> list[Judgement | BackendError]:
        global_embeddings = embeddings["global"]
        local_embeddings = embeddings.get("local", np.empty((0, global_embeddings.shape[1]), np.float32))
        return [
            self._conclude(
                slot,
                embedding,
                local_embeddings[slot.crop_range.start : slot.crop_range.stop],
                per_view_ms * (1 + len(slot.crop_range)),
            )
            for slot, embedding in zip(pack.slots, global_embeddings, strict=True)
        ]

    def _judge_enough(self, pack: Pack) -> list[Judgement | BackendError]:
        start = perf_counter()
        global_embeddings = embed(self._engines["global"], pack.global_views, self._batch)
        engine_ms = [(perf_counter() - start) * 1e3 / len(pack.slots)] * len(pack.slots)
        known = [np.empty((0, global_embeddings.shape[1]), np.float32) for _ in pack.slots]
        found: dict[int, Judgement | BackendError] = {}
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
                if last or _is_final(slot, judgement):
                    found[index] = judgement
        return [found[index] for index in range(len(pack.slots))]

    def _conclude(
        self, slot: Slot, global_embedding: Floats, local_embeddings: Floats, engine_ms: float
    ) -> Judgement | BackendError:
        start = perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused below
            outputs = [self._head.judge(global_embedding, draw) for draw in np.split(local_embeddings, slot.draws)]
        draws = np.stack([output.probabilities for output in outputs])
        output = mean_of_draws(outputs)
        if not all(np.isfinite(numbers).all() for numbers in (output.logits, output.probabilities, output.attention)):
            return BackendError(
                "the engines and the head gave this image no number (NaN or infinity): check the bundle with "
                "`glass-rt verify`, or build it in fp32"
            )
        aggregate_ms = (perf_counter() - start) * 1e3
        return Judgement(output, draws, len(local_embeddings), engine_ms, aggregate_ms)

    def close(self) -> None:
        """Closes the opened bundle, after the pack at work."""
        with self._engines_in_use:
            self.opened.close()


def _is_final(slot: Slot, judgement: Judgement | BackendError) -> bool:
    return isinstance(judgement, BackendError) or slot.stopping is None or slot.stopping.enough(judgement.output)


def _up_to(slot: Slot, round_number: int, known: int) -> range:
    """The crops of the pack that this round adds for an image: all of them where nothing may stop it early."""
    total = len(slot.crop_range)
    target = total if slot.stopping is None else min(total, max(2, -(-total * round_number // ROUNDS)))
    return slot.crop_range[known:target]
