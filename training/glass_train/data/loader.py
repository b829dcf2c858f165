"""Batches of views, made by threads ahead of the step that uses them, in the order of the epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import ImageError
from glass_train.data.examples import Example, Examples
from glass_train.data.order import Draw

AHEAD = 3  # batches in the making


@dataclass(frozen=True, eq=False)
class Batch:
    """Views of the images of a batch that could be read; `failed` names the others, with the reason.

    `global_views` float32 or uint8 (B, S, S, 3), `crops` uint8 (B, K, S, S, 3), `labels` int64 (B,); embeddings in the
    places of views where the examples hold them.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    global_views: NDArray[Any]
    crops: NDArray[Any]
    failed: tuple[tuple[str, str], ...]


Made = tuple[Example | None, str]


def batches(
    examples: Examples, order: Sequence[Sequence[Draw | int]], workers: int, ahead: int = AHEAD
) -> Iterator[Batch]:
    """The batches in their order. An entry that is a number stands for the views that the runtime judges.

    An image that cannot be read (any longer) is left out of its batch; the batch may be empty then. Raises MemoryError.
    """
    waiting: deque[tuple[Sequence[Draw | int], list[Future[Made]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="views")
    try:
        for draws in order:
            waiting.append((draws, [pool.submit(_make, examples, draw) for draw in draws]))
            if len(waiting) >= ahead:
                yield _collect(examples, *waiting.popleft())
        while waiting:
            yield _collect(examples, *waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _make(examples: Examples, draw: Draw | int) -> Made:
    index, turn = (draw, None) if isinstance(draw, int) else (draw.index, draw.turn)
    try:
        return examples.example(index, turn), ""
    except ImageError as error:
        return None, str(error)


def _collect(examples: Examples, draws: Sequence[Draw | int], made: Sequence[Future[Made]]) -> Batch:
    results = [future.result() for future in made]
    indices = [draw if isinstance(draw, int) else draw.index for draw in draws]
    good = [(index, example) for index, (example, _) in zip(indices, results, strict=True) if example is not None]
    failed = [
        (examples.name(index), reason)
        for index, (example, reason) in zip(indices, results, strict=True)
        if example is None
    ]
    labels = examples.labels
    return Batch(
        tuple(examples.name(index) for index, _ in good),
        labels[[index for index, _ in good]],
        np.stack([example.global_view for _, example in good]) if good else np.empty(0, np.float32),
        np.stack([example.crops for _, example in good]) if good else np.empty(0, np.uint8),
        tuple(failed),
    )
