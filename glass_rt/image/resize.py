"""The antialiased bilinear resize, twice: GLASS's in float32, and the resize-only baseline's as Pillow computes it.

Both are the separable triangle filter whose support grows with the scale (PyTorch's `interpolate(mode="bilinear",
antialias=True)`, Pillow's `BILINEAR`); they differ in rounding. When an image shrinks, every source pixel lies
between the centres of two neighbouring output pixels and adds to these two alone. So each axis is cut into
`size + 1` segments, and a segment is one product with a matrix of two rows: the pixels are converted to float32
once, in blocks that stay in the cache, and every one of them costs two multiplications.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.decode import Pixels

ROWS_AT_ONCE = 56  # of the result: the fewer, the less memory and the more calls for the columns
PILLOW_PRECISION_BITS = 32 - 8 - 2  # Resample.c: coefficients of an 8-bit image are integers of 22 bits


def resize_antialiased(pixels: Pixels, size: int) -> NDArray[np.float32]:
    """`pixels` uint8 (H, W, C) resized to float32 (size, size, C), range 0..255, not rounded.

    Equal to `torch.nn.functional.interpolate(float image, (size, size), mode="bilinear", antialias=True)` within
    0.003 level (float32 sums in another order).
    """
    height, width, channels = pixels.shape
    result = np.empty((size, size, channels), np.float32)
    for first, rows in _row_blocks(pixels.reshape(height, width * channels), size):
        result[first : first + len(rows)] = _reduce_columns(rows.reshape(-1, width, channels), size)
    return result


def resize_pillow(pixels: Pixels, size: int) -> Pixels:
    """`pixels` uint8 (H, W, C) resized to uint8 (size, size, C), bit-equal to Pillow's `resize(..., BILINEAR)`.

    Pillow (before 13, which turns the order round for tall images) filters along the rows first and rounds to 8 bits
    after each pass, with fixed-point coefficients. The sums stay below 2^53, so products in float64 are exact.
    """
    height, width, channels = pixels.shape
    horizontal = pixels
    if width != size:
        horizontal = np.empty((height, size, channels), np.uint8)
        for target, source, weights in _fixed_point_bands(width, size):
            band = pixels[:, source].transpose(0, 2, 1).astype(np.float64)  # (H, C, band)
            horizontal[:, target] = _round_fixed_point(band @ weights.T).transpose(0, 2, 1)
    if height == size:
        return np.ascontiguousarray(horizontal)
    flat = horizontal.reshape(height, size * channels)
    result = np.empty((size, size * channels), np.uint8)
    for target, source, weights in _fixed_point_bands(height, size):
        result[target] = _round_fixed_point(weights @ flat[source].astype(np.float64))
    return result.reshape(size, size, channels)


def _row_blocks(pixels: Pixels, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(H, n) uint8 -> rows of the result, float32 (at most `ROWS_AT_ONCE`, n), and the number of the first of them.

    A block is good until the next one is asked for.
    """
    height, width = pixels.shape
    if height <= size:  # enlarging: a source pixel adds to many output pixels
        yield 0, _dense_weights(height, size) @ pixels.astype(np.float32)
        return
    segments = _segments(height, size)
    scratch = np.empty((max(segment.stop - segment.start for segment in segments), width), np.float32)
    above, below = pair = np.empty((2, width), np.float32)
    rows = np.empty((ROWS_AT_ONCE, width), np.float32)
    for index, segment in enumerate(segments):
        block = scratch[: segment.stop - segment.start]
        np.copyto(block, pixels[segment.start : segment.stop], casting="unsafe")
        np.matmul(segment.weights, block, out=pair)
        if index > 0:
            rows[(index - 1) % ROWS_AT_ONCE] += above
            if index % ROWS_AT_ONCE == 0 or index == size:
                first = (index - 1) // ROWS_AT_ONCE * ROWS_AT_ONCE
                yield first, rows[: index - first]
        rows[index % ROWS_AT_ONCE] = below


def _reduce_columns(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(size, W, C) float32 -> (size, size, C) float32."""
    height, width, channels = rows.shape
    if width <= size:
        return np.ascontiguousarray(np.matmul(_dense_weights(width, size), rows))
    flat = rows.reshape(height, width * channels)
    pairs = np.empty((height, size + 1, 2 * channels), np.float32)
    for index, (segment, matrix) in enumerate(_interleaved_segments(width, size, channels)):
        np.matmul(flat[:, segment.start * channels : segment.stop * channels], matrix, out=pairs[:, index])
    # Segment i adds to output i - 1 (first half of its columns) and to output i (second half).
    return pairs[:, :-1, channels:] + pairs[:, 1:, :channels]


@dataclass(frozen=True, eq=False)
class _Segment:
    """Source pixels start..stop-1 and their weights, float32 (2, stop - start), for two neighbouring outputs."""

    start: int
    stop: int
    weights: NDArray[np.float32]


@lru_cache(maxsize=64)
def _filter_taps(length: int, size: int) -> tuple[tuple[int, NDArray[np.float64]], ...]:
    """Per output pixel: its first source pixel and the normalised triangle weights from there on.

    Source: ATen's `_compute_indices_min_size_weights_aa` and Pillow's `precompute_coeffs`, which agree.
    """
    scale = length / size
    support = max(scale, 1.0)
    taps = []
    for i in range(size):
        centre = scale * (i + 0.5)
        first = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), length)
        weights = np.maximum(1.0 - np.abs((np.arange(first, stop) - centre + 0.5) * (1.0 / support)), 0.0)
        taps.append((first, weights / weights.cumsum()[-1]))  # summed in Pillow's order: its roundings are matched
    return tuple(taps)


@lru_cache(maxsize=64)
def _dense_weights(length: int, size: int) -> NDArray[np.float32]:
    """Float32 (size, length)."""
    dense = np.zeros((size, length), np.float32)
    for row, (first, weights) in zip(dense, _filter_taps(length, size), strict=True):
        row[first : first + len(weights)] = weights
    return dense


@lru_cache(maxsize=64)
def _segments(length: int, size: int) -> tuple[_Segment, ...]:
    """The `size + 1` stretches between the centres of neighbouring outputs, for length > size."""
    taps = _filter_taps(length, size)
    scale = length / size
    bounds = [0, *(ceil(scale * (i + 0.5) - 0.5) for i in range(size)), length]
    segments = []
    for index, (start, stop) in enumerate(pairwise(bounds)):
        weights = np.zeros((2, stop - start), np.float32)
        for row, output in ((0, index - 1), (1, index)):
            if 0 <= output < size:
                first, values = taps[output]
                inside = slice(max(start, first), min(stop, first + len(values)))
                weights[row, inside.start - start : inside.stop - start] = values[
                    inside.start - first : inside.stop - first
                ]
        segments.append(_Segment(start, stop, weights))
    return tuple(segments)


@lru_cache(maxsize=64)
def _interleaved_segments(length: int, size: int, channels: int) -> tuple[tuple[_Segment, NDArray[np.float32]], ...]:
    """Segments with their weights spread over interleaved channels: float32 (pixels * C, 2 * C)."""
    identity = np.eye(channels, dtype=np.float32)
    return tuple(
        (segment, np.ascontiguousarray(np.kron(segment.weights.T, identity))) for segment in _segments(length, size)
    )


@lru_cache(maxsize=64)
def _fixed_point_bands(length: int, size: int) -> tuple[tuple[slice, slice, NDArray[np.float64]], ...]:
    """Blocks of four outputs: (outputs, sources, integer weights as float64 (outputs, sources))."""
    bands = []
    taps = _filter_taps(length, size)
    for start in range(0, size, 4):
        block = taps[start : start + 4]
        low = min(first for first, _ in block)
        high = max(first + len(weights) for first, weights in block)
        matrix = np.zeros((len(block), high - low))
        for row, (first, weights) in zip(matrix, block, strict=True):
            row[first - low : first - low + len(weights)] = np.floor(weights * (1 << PILLOW_PRECISION_BITS) + 0.5)
        bands.append((slice(start, start + len(block)), slice(low, high), matrix))
    return tuple(bands)


def _round_fixed_point(sums: NDArray[np.float64]) -> Pixels:
    half = 1 << (PILLOW_PRECISION_BITS - 1)
    rounded = np.floor((sums + half) / (1 << PILLOW_PRECISION_BITS))
    return np.clip(rounded, 0, 255).astype(np.uint8)
