"""Engines whose batch size is fixed run any number of views: as often as needed, the last run padded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from glass_rt.backends.base import Array, TensorSpec

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def run_in_batches(
    run: Run, feeds: Mapping[str, Array], count: int, batch: int, outputs: tuple[TensorSpec, ...]
) -> dict[str, Array]:
    """What `run` gives for `count` > 0 views, by runs of `batch` views; the arrays returned are new."""
    results = [
        run({name: _padded(array[start : start + batch], batch) for name, array in feeds.items()})
        for start in range(0, count, batch)
    ]
    return {spec.name: np.concatenate([result[spec.name] for result in results])[:count] for spec in outputs}


def no_views(outputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """The outputs of no views, for libraries that refuse empty inputs."""
    return {spec.name: np.empty([size or 0 for size in spec.shape], spec.dtype) for spec in outputs}


def _padded(views: Array, batch: int) -> Array:
    """`batch` views, the last one repeated."""
    missing = batch - len(views)
    return np.concatenate([views, views[-1:].repeat(missing, axis=0)]) if missing else views
