"""A generated picture of any size: a landscape with texture at every scale, the same for the same seed.

python -m glass_bench.sample --megapixels 12 --seed 606 --output sample.jpg
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray


def landscape(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Sky, sun and ridges: uint8 (height, width, 3), RGB."""
    generator = np.random.Generator(np.random.PCG64(seed))
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    picture = (1 - y) * np.array([70, 110, 170], np.float32) + y * np.array([250, 190, 140], np.float32)
    picture = np.repeat(picture, width, axis=1)
    picture += 45 * _clouds(width, height, generator)[:, :, None] * (1 - y)
    _add_sun(picture, generator)
    for layer in range(5):
        depth = layer / 4  # 0 far, 1 near
        line = _ridge(width, generator, roughness=0.5 + 0.1 * layer) * 0.16 + 0.45 + 0.13 * layer
        mask = np.clip((y[:, :, 0] - line[None, :]) * height, 0, 1)[:, :, None]
        near, far = np.array([34, 46, 38], np.float32), np.array([150, 150, 175], np.float32)
        texture = _clouds(width, height, generator, finest=1)[:, :, None]
        colour = far + (near - far) * depth + (12 + 30 * depth) * texture
        picture += (colour - picture) * mask
    grain = generator.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(picture + 2.5 * grain, 0, 255).astype(np.uint8)


def _clouds(width: int, height: int, generator: np.random.Generator, finest: int = 4) -> NDArray[np.float32]:
    """Fractal noise, about -1..1: octaves of random grids enlarged to the picture."""
    total = np.zeros((height, width), np.float32)
    cell, weight = max(width, height) // 2, 1.0
    while cell >= finest:
        grid = generator.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cell, weight = cell // 3, weight * 0.55
    total *= 0.5
    return total


def _ridge(width: int, generator: np.random.Generator, roughness: float) -> NDArray[np.float32]:
    line = np.zeros(width, np.float32)
    points, weight = 3, 1.0
    while points < width:
        values = generator.standard_normal(points + 1)
        line += weight * np.interp(np.linspace(0, points, width), np.arange(points + 1), values).astype(np.float32)
        points, weight = points * 2, weight * roughness
    line *= 0.5
    return line


def _add_sun(picture: NDArray[np.float32], generator: np.random.Generator) -> None:
    height, width = picture.shape[:2]
    x, y = width * generator.uniform(0.25, 0.75), height * generator.uniform(0.2, 0.35)
    squared = (np.arange(width, dtype=np.float32) - x) ** 2 + (np.arange(height, dtype=np.float32)[:, None] - y) ** 2
    glow = np.exp(-squared / (0.03 * height * width))
    picture += glow[:, :, None] * np.array([90, 70, 40], np.float32)


@click.command()
@click.option("--megapixels", type=click.FloatRange(0.01, 200), default=12.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=606, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("sample.jpg"), show_default=True)
def main(megapixels: float, seed: int, output: Path) -> None:
    """Write a generated landscape of 4:3; the suffix of OUTPUT says the format."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    picture = landscape(round(height * 4 / 3), height, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(output.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise click.ClickException(f"{output}: OpenCV writes no {output.suffix} files")
    output.write_bytes(encoded.tobytes())
    click.echo(f"  wrote {output}: {picture.shape[1]} x {picture.shape[0]}, generated with seed {seed}", err=True)


if __name__ == "__main__":
    main()
