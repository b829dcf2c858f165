"""The bundle judges the test split, once: images as they are, and after every tier of delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.detector import Detector
from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import ImageSource, load
from glass_rt.results.verdict import Verdict
from glass_train.data.scan import Scanned
from glass_train.data.tiers import TIERS
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.step import Step
from glass_train.figures import Interval, auc, by_group

FEWEST = 5  # images of each class, below which a row has no AUC


@dataclass(frozen=True)
class Row:
    """Figures of some of the images in one tier: AUC by group, shares called fake at the bundle's threshold."""

    what: str
    tier: str
    fake: int
    real: int
    auc: Interval | None
    called_fake_of_fake: float | None
    called_fake_of_real: float | None


@dataclass(frozen=True)
class Judged:
    """Probabilities float64 (N,) of one tier, NaN where an image could not be judged."""

    tier: str
    probability: NDArray[np.float64]


def judge_tiers(
    bundle: Path, images: Sequence[Scanned], tiers: Sequence[str], recoded: Mapping[str, Sequence[tuple[Step, ...]]]
) -> list[Judged]:
    """Judges every image in every tier, and after the steps that each row of `recoded` has for it."""
    with Detector.open(bundle) as detector:
        judged = [Judged(tier, _judge(detector, _sources(images, TIERS[tier]))) for tier in tiers]
        return judged + [Judged(row, _judge(detector, _after(images, steps))) for row, steps in recoded.items()]


def _judge(detector: Detector, sources: Iterator[ImageSource]) -> NDArray[np.float64]:
    results = detector.detect_many(sources)
    return np.array([one.probability_fake if isinstance(one, Verdict) else np.nan for one in results], np.float64)


def _sources(images: Sequence[Scanned], alter: Callable[[Pixels], Pixels] | None) -> Iterator[ImageSource]:
    for scanned in images:
        if alter is None and not scanned.before:
            yield scanned.image.path
        else:
            pixels = DeliveredImage(load(scanned.image.path).pixels, scanned.before).pixels()
            yield pixels if alter is None else alter(pixels)


def _after(images: Sequence[Scanned], steps: Sequence[tuple[Step, ...]]) -> Iterator[ImageSource]:
    for scanned, more in zip(images, steps, strict=True):
        if scanned.before or more:
            yield DeliveredImage(load(scanned.image.path).pixels, (*scanned.before, *more)).pixels()
        else:
            yield scanned.image.path


def rows(images: Sequence[Scanned], judged: Sequence[Judged], threshold: float, seed: int) -> list[dict[str, Any]]:
    """The figures of all images in every tier, then by source in the first one."""
    fake = np.array([scanned.image.fake for scanned in images])
    groups = [scanned.image.group or scanned.image.pair or scanned.pixels_sha256 for scanned in images]
    sources = np.array([scanned.image.source or "" for scanned in images])

    def row(what: str, one: Judged, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return asdict(_row(what, one, np.flatnonzero(chosen), fake, groups, threshold, seed))

    everything = np.ones(len(images), bool)
    found = [row("all", one, everything) for one in judged]
    names = sorted(set(sources.tolist()))
    if len(names) > 1:
        for name in names:
            of_source = sources == name
            # A generator against all reals; reals of one source against all fakes.
            mixed = bool(fake[of_source].any() and not fake[of_source].all())
            others = np.zeros(len(images), bool) if mixed else fake != bool(fake[of_source][0])
            found.append(row(f"source {name or '(unnamed)'}", judged[0], of_source | others))
    return found


def _row(
    what: str,
    one: Judged,
    chosen: NDArray[np.int64],
    fake: NDArray[np.bool_],
    groups: Sequence[str],
    threshold: float,
    seed: int,
) -> Row:
    chosen = chosen[np.isfinite(one.probability[chosen])]
    truth, probability = fake[chosen], one.probability[chosen]
    enough = min(int(truth.sum()), int((~truth).sum())) >= FEWEST
    area = by_group(lambda at: auc(truth[at], probability[at]), [groups[i] for i in chosen], seed) if enough else None
    called = probability >= threshold
    return Row(
        what,
        one.tier,
        int(truth.sum()),
        int((~truth).sum()),
        area,
        float(called[truth].mean()) if truth.any() else None,
        float(called[~truth].mean()) if (~truth).any() else None,
    )
