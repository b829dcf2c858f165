"""The order of an epoch: which images a batch holds, and the turn of each, from the run's seed and the epoch alone.

Nothing is kept between epochs, so a run that was stopped goes on with the same batches.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAKE, REAL = 0, 1  # as in a checkpoint's logits


@dataclass(frozen=True)
class Draw:
    """One image of a batch: its index and its turn, a number that is new at every visit of the image in a run.

    Twins in one batch have one turn: what follows from turn and pair is the same for both.
    """

    index: int
    turn: int


@dataclass(frozen=True)
class _Couple:
    """A fake and a real image, and how often each came before in the same visit."""

    fake: int
    real: int
    fake_before: int
    real_before: int


def epoch_order(
    labels: NDArray[np.int64], pairs: Sequence[str | None], batch: int, seed: int, epoch: int, repeats: int = 1
) -> list[tuple[Draw, ...]]:
    """The batches of one epoch; each holds `batch` images (an even number), half of them fake.

    Twins (a fake and a real image with the same entry in `pairs`) stand in one batch. The other images of the smaller
    class come more than once. `repeats`: how often an epoch goes through the images. The last batch is filled up with
    the epoch's first images.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    twins, others = _twins(labels, pairs)
    draws: list[tuple[Draw, Draw]] = []
    for visit in range(repeats):
        couples = twins + _balanced(others, labels, generator)
        most = 1 + max(max(couple.fake_before, couple.real_before) for couple in couples)
        start = (epoch * repeats + visit) * most
        draws += [
            (Draw(couple.fake, start + couple.fake_before), Draw(couple.real, start + couple.real_before))
            for couple in couples
        ]
    order = [draws[i] for i in generator.permutation(len(draws))]
    a_batch = batch // 2
    order += [order[i % len(order)] for i in range(-len(order) % a_batch)]
    return [
        tuple(draw for couple in order[start : start + a_batch] for draw in couple)
        for start in range(0, len(order), a_batch)
    ]


def _twins(labels: NDArray[np.int64], pairs: Sequence[str | None]) -> tuple[list[_Couple], dict[int, list[int]]]:
    """Couples of one pair, each image in at least one; and the images without a twin, by class."""
    members: dict[str, dict[int, list[int]]] = defaultdict(lambda: {FAKE: [], REAL: []})
    others: dict[int, list[int]] = {FAKE: [], REAL: []}
    for index, (label, pair) in enumerate(zip(labels.tolist(), pairs, strict=True)):
        (others if pair is None else members[pair])[label].append(index)
    couples: list[_Couple] = []
    for classes in members.values():
        fakes, reals = classes[FAKE], classes[REAL]
        if fakes and reals:
            numbers = range(max(len(fakes), len(reals)))
            couples += [_Couple(fakes[i % len(fakes)], reals[i % len(reals)], i, i) for i in numbers]
        else:
            others[FAKE] += fakes
            others[REAL] += reals
    return couples, others


def _balanced(others: dict[int, list[int]], labels: NDArray[np.int64], generator: np.random.Generator) -> list[_Couple]:
    """Couples of unrelated images, each image without a twin at least once."""
    count = max(map(len, others.values()))
    # A class of which every image has a twin lends some of them.
    fakes, reals = (
        generator.permutation(others[label] or np.flatnonzero(labels == label)).tolist() for label in (FAKE, REAL)
    )
    return [
        _Couple(fakes[i % len(fakes)], reals[i % len(reals)], i // len(fakes), i // len(reals)) for i in range(count)
    ]


def draw_seed(*facts: object) -> int:
    """64 bits that follow from the facts alone."""
    return int.from_bytes(hashlib.blake2b(" ".join(map(str, facts)).encode(), digest_size=8).digest(), "big")
