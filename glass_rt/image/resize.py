"""The antialiased bilinear resize, twice: GLASS's in float32, and the resize-only baseline's as Pillow computes it.

Both are the separable triangle filter whose support grows with the scale (PyTorch's `interpolate(mode="bilinear",
antialias=True)`, Pillow's `BILINEAR`); they differ in rounding. When an image shrinks, every source pixel lies
between the centres of two neighbouring output pixels and adds to these two alone. So each axis is cut into
`size + 1` segments, and a segment is one product with a matrix of two rows: the pixels are converted to float32
once, in blocks that stay in the cache, and every one of them costs two multiplications.

Every call of NumPy gives the interpreter's lock back and takes it again, for which many threads queue: on 16 cores
1,800 calls an image kept them at 50 images a second (benchmarks/results/gpu_hour). So
neighbouring segments are one call.
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

# Rows of the result that are made at once: the fewer, the less memory and the more calls for the columns. They are
# this many, and of narrow images as many as take `PAIR_BYTES`.
FEWEST_ROWS, PAIR_BYTES = 20, 3 << 19
BLOCK_BYTES = 11 << 18  # of source pixels as float32: two segments of an image of 24 megapixels
MOST_PADDING = {"rows": 1, "columns": 6}  # source pixels by which a run's windows may be longer than a segment
_BESIDE = 8 << 20  # bytes, whatever the image's size: blocks of pixels, pairs of narrow rows, weights
PILLOW_PRECISION_BITS = 32 - 8 - 2  # Resample.c: coefficients of an 8-bit image are integers of 22 bits


def resize_antialiased(pixels: Pixels, size: int) -> NDArray[np.float32]:
    """`pixels` uint8 (H, W, C) resized to float32 (size, size, C), range 0..255, not rounded.

    Equal to `torch.nn.functional.interpolate(float image, (size, size), mode="bilinear", antialias=True)` within
    0.003 level (float32 sums in another order).
    """
    height, width, channels = pixels.shape
    result = np.empty((size, size, channels), np.float32)
    for first, rows in _row_blocks(pixels.reshape(height, width * channels), size):
        _reduce_columns(rows, result[first : first + len(rows)])
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


def antialiased_bytes(height: int, width: int, size: int) -> int:
    """Bytes that `resize_antialiased` takes at most beside an RGB image: rows as float32, and weights."""
    rows = height + size if height <= size else 2 * (FEWEST_ROWS + 1) + height // size + 2
    return _BESIDE + 12 * width * rows


def pillow_bytes(height: int, width: int, size: int) -> int:
    """Bytes that `resize_pillow` takes at most beside an RGB image: a band of columns as float64, twice, and sums."""
    band = 5 * width // size + 8
    return _BESIDE + height * 3 * (8 * (2 * band + 16) + size)


def _row_blocks(pixels: Pixels, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(H, n) uint8 -> some rows of the result, float32 (R, n), and the number of the first of them.

    A block is good until the next one is asked for.
    """
    height, width = pixels.shape
    if height <= size:  # enlarging: a source pixel adds to many output pixels
        yield 0, _dense_weights(height, size) @ pixels.astype(np.float32)
        return
    at_once = min(size, max(FEWEST_ROWS, PAIR_BYTES // (8 * width) - 1))
    blocks = _row_runs(height, size, at_once, max(1, BLOCK_BYTES // (4 * width)))
    scratch = np.empty((max(run.source_length for runs in blocks for run in runs), width), np.float32)
    pairs = np.empty((at_once + 1, 2, width), np.float32)  # for the outputs above and below each segment
    for number, runs in enumerate(blocks):
        first = number * at_once
        if number > 0:
            pairs[0] = pairs[at_once]
        for run in runs:
            block = scratch[: run.source_length]
            np.copyto(block, pixels[run.start : run.start + run.source_length], casting="unsafe")
            target = pairs[run.first - first : run.first - first + len(run.weights)]
            np.matmul(run.weights, run.over_rows(block), out=target)
        count = min(at_once, size - first)
        rows = pairs[:count, 1]
        rows += pairs[1 : count + 1, 0]
        yield first, rows


def _reduce_columns(rows: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """float32 (R, W * C) -> `out`, float32 (R, size, C)."""
    height, size, channels = out.shape
    width = rows.shape[1] // channels
    if width <= size:
        np.matmul(_dense_weights(width, size), rows.reshape(height, width, channels), out=out)
        return
    pairs = np.empty((height, size + 1, 2 * channels), np.float32)
    for run in _column_runs(width, size, channels):
        target = pairs[:, run.first : run.first + len(run.weights)].transpose(1, 0, 2)
        np.matmul(run.over_columns(rows), run.weights, out=target)
    # Segment i adds to output i - 1 (first half of its columns) and to output i (second half).
    np.add(pairs[:, :-1, channels:], pairs[:, 1:, :channels], out=out)


@dataclass(frozen=True, eq=False)
class _Segment:
    """Source pixels start..stop-1 and their weights, float32 (2, stop - start), for two neighbouring outputs."""

    start: int
    stop: int
    weights: NDArray[np.float32]


@lru_cache(maxsize=64)
def filter_taps(length: int, size: int) -> tuple[tuple[int, NDArray[np.float64]], ...]:
    """Of one axis, from `length` to `size` pixels: each output's first source pixel, and the weights from there on.

    The weights of an output are those of the triangle, in float64, and sum to 1.

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
    for row, (first, weights) in zip(dense, filter_taps(length, size), strict=True):
        row[first : first + len(weights)] = weights
    return dense


@lru_cache(maxsize=64)
def _segments(length: int, size: int) -> tuple[_Segment, ...]:
    """The `size + 1` stretches between the centres of neighbouring outputs, for length > size."""
    taps = filter_taps(length, size)
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


@dataclass(frozen=True, eq=False)
class _Run:
    """Neighbouring segments as one product of many: windows of one length at one distance, with weights for each.

    Segments are of two lengths, and begin at uneven places: windows are a little longer, and weigh nothing there. So
    the sums are those of the segments alone, and one call of NumPy makes all of them without the interpreter. `first`
    is the number of the first segment, `start` the first source element, `step` the distance of the windows. `weights`:
    float32 (segments, 2, window) over rows, (segments, window * C, 2 * C) over columns of interleaved channels.
    """

    first: int
    start: int
    step: int
    window: int
    weights: NDArray[np.float32]

    @property
    def source_length(self) -> int:
        """Source elements from the first window to the last."""
        return (len(self.weights) - 1) * self.step + self.window

    def over_rows(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The windows (segments, window, n) of contiguous source rows, of which `block` holds this run's."""
        row, item = block.strides
        shape = (len(self.weights), self.window, block.shape[1])
        found: NDArray[np.float32] = np.ndarray(shape, np.float32, block, 0, (self.step * row, row, item))
        return found

    def over_columns(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The windows (segments, R, window) of rows, which may lie apart in the memory of a contiguous array."""
        memory = rows if rows.base is None else rows.base
        row, item = rows.strides
        begin = rows.__array_interface__["data"][0] - memory.__array_interface__["data"][0] + self.start * item
        shape = (len(self.weights), len(rows), self.window)
        found: NDArray[np.float32] = np.ndarray(shape, np.float32, memory, begin, (self.step * item, row, item))
        return found


@lru_cache(maxsize=64)
def _row_runs(length: int, size: int, at_once: int, most_rows: int) -> tuple[tuple[_Run, ...], ...]:
    """By block of `at_once` outputs: the runs of the segments that they need and no former block did.

    A run takes at most `most_rows` source rows, or one segment.
    """
    segments = _segments(length, size)
    blocks, done = [], 0
    while done < len(segments):
        stop = min((done - 1 if done else 0) + at_once + 1, len(segments))
        blocks.append(tuple(_runs(segments, done, stop, most_rows, MOST_PADDING["rows"])))
        done = stop
    return tuple(blocks)


@lru_cache(maxsize=64)
def _column_runs(length: int, size: int, channels: int) -> tuple[_Run, ...]:
    """Runs over all segments, counted in elements of interleaved channels."""
    segments, identity = _segments(length, size), np.eye(channels, dtype=np.float32)
    return tuple(
        _Run(
            run.first,
            run.start * channels,
            run.step * channels,
            run.window * channels,
            np.stack([np.kron(weights.T, identity) for weights in run.weights]),
        )
        for run in _runs(segments, 0, len(segments), length, MOST_PADDING["columns"])
    )


def _runs(segments: tuple[_Segment, ...], first: int, stop: int, most: int, padding: int) -> Iterator[_Run]:
    """Segments first..stop-1 in runs of at most `most` source pixels, whose windows are longer by `padding` at most."""
    longest = max(segment.stop - segment.start for segment in segments)
    while first < stop:
        run = _run(segments[first : first + 1], first, 1)
        for step in (longest - 1, longest):
            for count in range(len(run.weights) + 1, stop - first + 1):
                longer = _run(segments[first : first + count], first, step)
                beyond = longer.start + longer.source_length > segments[-1].stop
                if longer.start < 0 or beyond or longer.window > longest + padding or longer.source_length > most:
                    break
                run = longer
        yield run
        first += len(run.weights)


def _run(segments: tuple[_Segment, ...], first: int, step: int) -> _Run:
    start = min(segment.start - index * step for index, segment in enumerate(segments))
    window = max(segment.stop - index * step for index, segment in enumerate(segments)) - start
    weights = np.zeros((len(segments), 2, window), np.float32)
    for index, segment in enumerate(segments):
        offset = segment.start - index * step - start
        weights[index, :, offset : offset + segment.stop - segment.start] = segment.weights
    return _Run(first, start, step, window, weights)


@lru_cache(maxsize=64)
def _fixed_point_bands(length: int, size: int) -> tuple[tuple[slice, slice, NDArray[np.float64]], ...]:
    """Blocks of four outputs: (outputs, sources, integer weights as float64 (outputs, sources))."""
    bands = []
    taps = filter_taps(length, size)
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
