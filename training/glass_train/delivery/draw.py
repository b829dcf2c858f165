"""One delivery drawn from a policy: the same steps for the same seed, on every machine."""

from __future__ import annotations

from random import Random

from glass_train.delivery.blur import Blur
from glass_train.delivery.geometry import Flip
from glass_train.delivery.jpeg import Jpeg
from glass_train.delivery.noise import Noise
from glass_train.delivery.policy import Policy
from glass_train.delivery.rescale import Rescale, Thumbnail
from glass_train.delivery.step import Step
from glass_train.delivery.webp import WebP


def draw_delivery(policy: Policy, seed: str) -> tuple[Step, ...]:
    """The steps that `seed` draws from `policy`.

    Every draw is made, whether or not its step is taken, so that changing one probability leaves the rest as it was.
    """
    draw = Random(seed)  # text seeds and `random` give the same numbers in every version of Python
    steps = (*_flips(policy, draw), *_blur(policy, draw), *_size(policy, draw), *_noise(policy, draw))
    return (*steps, *_rounds(policy, draw))


def _flips(policy: Policy, draw: Random) -> tuple[Step, ...]:
    horizontal, vertical = _chance(draw, policy.horizontal_flip), _chance(draw, policy.vertical_flip)
    return (Flip(horizontal, vertical),) if horizontal or vertical else ()


def _blur(policy: Policy, draw: Random) -> tuple[Step, ...]:
    taken, sigma = _chance(draw, policy.blur), _evenly(draw, policy.blur_sigma)
    return (Blur(sigma),) if taken else ()


def _size(policy: Policy, draw: Random) -> tuple[Step, ...]:
    thumbnail, side = _chance(draw, policy.thumbnail), _integer(draw, policy.thumbnail_side)
    rescale, factor = _chance(draw, policy.rescale), _evenly(draw, policy.rescale_factor)
    kernel = policy.filters[_integer(draw, (0, len(policy.filters) - 1))]
    if thumbnail:
        return (Thumbnail(side, kernel),)
    return (Rescale(factor, kernel),) if rescale else ()


def _noise(policy: Policy, draw: Random) -> tuple[Step, ...]:
    taken, sigma, seed = _chance(draw, policy.noise), _evenly(draw, policy.noise_sigma), draw.getrandbits(64)
    return (Noise(sigma, seed),) if taken else ()


def _rounds(policy: Policy, draw: Random) -> tuple[Step, ...]:
    first, second = _chance(draw, policy.jpeg), _chance(draw, policy.second_jpeg)
    rounds = (_round(policy, draw), _round(policy, draw))
    return rounds[: first + (first and second)]


def _round(policy: Policy, draw: Random) -> Step:
    webp, quality = _chance(draw, policy.webp), _integer(draw, policy.quality)
    subsampling = policy.subsamplings[_integer(draw, (0, len(policy.subsamplings) - 1))]
    return WebP(quality) if webp else Jpeg(subsampling, quality)


def _chance(draw: Random, probability: float) -> bool:
    return draw.random() < probability


def _evenly(draw: Random, ends: tuple[float, float]) -> float:
    return ends[0] + (ends[1] - ends[0]) * draw.random()


def _integer(draw: Random, ends: tuple[int, int]) -> int:
    return ends[0] + int((ends[1] - ends[0] + 1) * draw.random())
