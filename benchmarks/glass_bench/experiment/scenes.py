"""Generated scenes that look like photographs to a statistician, with or without an upsampler's periodic artefact.

A scene is rendered at half resolution and doubled. The doubling of a `real` picture is even. That of a `fake` one is
that of a transposed convolution of stride 2 whose kernel overlaps unevenly: rows and columns are alternately darker
and brighter by a few per cent (Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016). The gains
average to one over every 2 x 2 pixels, so the picture resized to 224 x 224 is the same: the evidence is gone.
Everything else (scene, size, grain, JPEG) is the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glass_rt.image.decode import Pixels

JPEG_QUALITY = 95
GRAIN = 2.0  # standard deviation, in levels of 255
_ASPECTS = (4 / 3, 3 / 2, 1.0, 3 / 4, 2 / 3)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SceneSpec:
    """One scene: its seed, its size, and how uneven the upsampler of its fake twin is (0.03: 3 per cent)."""

    seed: int
    width: int
    height: int
    unevenness: float


def scene_specs(
    count: int, seed: int, megapixels: tuple[float, float], unevenness: tuple[float, float]
) -> tuple[SceneSpec, ...]:
    """`count` scenes of random sizes, the same for the same seed; widths and heights are even."""
    generator = np.random.Generator(np.random.PCG64(seed))
    specs = []
    for index in range(count):
        pixels = generator.uniform(*megapixels) * 1e6
        aspect = _ASPECTS[int(generator.integers(len(_ASPECTS)))]
        height = round((pixels / aspect) ** 0.5 / 2) * 2
        width = round(pixels / height / 2) * 2
        specs.append(SceneSpec(seed * 100_003 + index, width, height, float(generator.uniform(*unevenness))))
    return tuple(specs)


def render(spec: SceneSpec) -> tuple[bytes, bytes]:
    """The scene as two JPEG files: (fake, real)."""
    generator = np.random.Generator(np.random.PCG64(spec.seed))
    small = _scene(spec.width // 2, spec.height // 2, generator)
    even = cv2.resize(small, (spec.width, spec.height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    pattern = generator.standard_normal((spec.height, spec.width, 1), dtype=np.float32) * np.float32(GRAIN)
    uneven = even * uneven_gain(spec.height, spec.width, spec.unevenness)[:, :, None]
    return _jpeg(uneven + pattern), _jpeg(even + pattern)


def uneven_gain(height: int, width: int, unevenness: float) -> Floats:
    """float32 (H, W): the gain of a stride-2 transposed convolution; its mean over any 2 x 2 pixels is 1."""
    rows = 1 + unevenness * np.where(np.arange(height) % 2, 1.0, -1.0)
    columns = 1 + unevenness * np.where(np.arange(width) % 2, 1.0, -1.0)
    gain: Floats = np.outer(rows, columns).astype(np.float32)
    return gain


def _scene(width: int, height: int, generator: np.random.Generator) -> Floats:
    """float32 (H, W, 3), about 0..255: clouds of noise at every scale, with occluding shapes of their own texture."""
    picture = _surface(width, height, generator)
    for _ in range(int(generator.integers(12, 30))):
        mask = _shape(width, height, generator)
        left, top, right, bottom = _bounds(mask)
        if right > left and bottom > top:
            window = (slice(top, bottom), slice(left, right))
            patch = _surface(right - left, bottom - top, generator)
            picture[window] += (patch - picture[window]) * mask[window][:, :, None]
    clipped: Floats = np.clip(picture, 8, 236)
    return clipped


def _surface(width: int, height: int, generator: np.random.Generator) -> Floats:
    colour = generator.uniform(40, 205, 3).astype(np.float32)
    contrast = generator.uniform(6, 38)
    luminance = _noise(width, height, generator, finest=2) * contrast
    slope = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * generator.uniform(-25, 25)
    surface: Floats = (luminance + slope)[:, :, None] + colour
    return surface.astype(np.float32)


def _noise(width: int, height: int, generator: np.random.Generator, finest: int) -> Floats:
    """float32 (H, W), about -1..1: octaves of random grids enlarged, weights falling as in photographs."""
    total: Floats = np.zeros((height, width), np.float32)
    cell, weight = max(8, max(width, height) // 3), 1.0
    while cell >= finest:
        grid = generator.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
        total += np.float32(weight) * cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
        cell, weight = cell // 4, weight * 0.5
    total *= np.float32(0.6)
    return total


def _shape(width: int, height: int, generator: np.random.Generator) -> Floats:
    """float32 (H, W) in 0..1: one ellipse or polygon with soft edges."""
    mask = np.zeros((height, width), np.uint8)
    radius = min(width, height) * float(np.clip(generator.pareto(1.5) * 0.05 + 0.02, 0.02, 0.35))
    centre = generator.uniform((0, 0), (width, height))
    angles = np.sort(generator.uniform(0, 2 * np.pi, int(generator.integers(4, 12))))
    spread = radius * generator.uniform(0.6, 1.4, len(angles))
    points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * spread[:, None]
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
    soft: Floats = mask.astype(np.float32) / np.float32(255)
    return soft


def _bounds(mask: Floats) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _jpeg(picture: Floats) -> bytes:
    rounded: Pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(rounded, cv2.COLOR_RGB2BGR), options)
    assert done, "OpenCV writes JPEG"
    return bytes(encoded.tobytes())
