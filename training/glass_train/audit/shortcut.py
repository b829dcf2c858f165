"""The audit: how well the label can be told from the container alone, and which fact gives it away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import MissingDependency

try:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.tree import DecisionTreeClassifier
except ImportError:
    raise MissingDependency("scikit-learn", "train", "training") from None

from glass_train.audit.bound import auc, lower_bound
from glass_train.audit.container import Container

LIMIT = 0.6  # of the lower bound of the AUC
MOST = 2000  # containers of a class that are looked at
FOLDS, TREES = 5, 60
_AS_GOOD = 0.02  # facts whose AUC is this near to the best are named in the order of `FACTS`

Features = NDArray[np.float64]
Flags = NDArray[np.bool_]


def _tables(container: Container) -> list[float]:
    luma, chroma = container.tables or ((0,) * 64, (0,) * 64)
    return [sum(luma), sum(chroma), *luma, *chroma]


def _code(text: str | None) -> float:
    """A number for a word: the same for the same word."""
    return float(int.from_bytes((text or "").encode()[:6], "big"))


# In the order in which they are named: one that implies others first.
FACTS: dict[str, Callable[[Container], list[float]]] = {
    "format": lambda c: [_code(c.format)],
    "width and height": lambda c: [c.width, c.height, c.width * c.height, c.width / c.height],
    "quantisation tables": _tables,
    "chroma subsampling": lambda c: [_code(c.subsampling)],
    "EXIF": lambda c: [c.exif],
    "ICC profile": lambda c: [c.icc],
    "progressive coding": lambda c: [c.progressive],
    "bytes per pixel": lambda c: [c.bytes_per_pixel],
}


@dataclass(frozen=True)
class Finding:
    """What one fact alone gives away: AUC, its lower 95 % bound, and what it is in either class."""

    fact: str
    auc: float
    low: float
    fake: str
    real: str


@dataclass(frozen=True)
class Audit:
    """What all facts together give away, and each alone, the worst first. `images`: how many were looked at."""

    auc: float
    low: float
    findings: tuple[Finding, ...]
    images: int

    @property
    def passes(self) -> bool:
        """Whether the lower bound of the AUC is at most the limit."""
        return self.low <= LIMIT

    @property
    def telling(self) -> tuple[Finding, ...]:
        """The facts that alone are above the limit; the best of all where only several together are."""
        alone = tuple(finding for finding in self.findings if finding.low > LIMIT)
        return alone if alone or self.passes else self.findings[:1]


def audit(containers: Sequence[Container], fake: Sequence[bool], groups: Sequence[str], seed: int) -> Audit:
    """Cross-validates a classifier of containers, no group in two folds; bounds by resampling groups.

    Of each class at most `MOST` containers are looked at, drawn by `seed`. A class of fewer than two groups cannot be
    cross-validated by group: there every image counts as a group of its own.
    """
    chosen = _drawn(fake, seed)
    containers, labels = [containers[i] for i in chosen], np.array([fake[i] for i in chosen])
    codes = _group_codes([groups[i] for i in chosen], labels)
    blocks = {fact: np.array([features(c) for c in containers], np.float64) for fact, features in FACTS.items()}
    findings = [_finding(fact, block, containers, labels, codes, seed) for fact, block in blocks.items()]
    best = max(finding.auc for finding in findings)
    findings.sort(key=lambda finding: -best if finding.auc >= best - _AS_GOOD else -finding.auc)
    forest = RandomForestClassifier(TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed)
    scores = _out_of_fold(forest, np.hstack(list(blocks.values())), labels, codes, seed)
    return Audit(auc(labels, scores), lower_bound(labels, scores, codes, seed), tuple(findings), len(chosen))


def _finding(
    fact: str, block: Features, containers: Sequence[Container], labels: Flags, codes: NDArray[np.int64], seed: int
) -> Finding:
    tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=2, class_weight="balanced", random_state=seed)
    same = (block == block[0]).all()
    scores = np.full(len(labels), 0.5) if same else _out_of_fold(tree, block, labels, codes, seed)
    fakes = [c for c, is_fake in zip(containers, labels, strict=True) if is_fake]
    reals = [c for c, is_fake in zip(containers, labels, strict=True) if not is_fake]
    bound = 0.5 if same else lower_bound(labels, scores, codes, seed)
    return Finding(fact, auc(labels, scores), bound, _described(fact, fakes), _described(fact, reals))


def _out_of_fold(
    model: RandomForestClassifier | DecisionTreeClassifier,
    features: Features,
    labels: Flags,
    codes: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """P(fake) of every container by a model that saw none of its group; 0.5 where a fold lacked a class."""
    scores = np.full(len(labels), 0.5)
    folds = min(FOLDS, *(len(np.unique(codes[labels == label])) for label in (False, True)))
    if folds < 2:
        return scores
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(features, labels, codes):
        if labels[train].any() and not labels[train].all():
            scores[test] = model.fit(features[train], labels[train]).predict_proba(features[test])[:, 1]
    return scores


def _drawn(fake: Sequence[bool], seed: int) -> list[int]:
    generator = np.random.Generator(np.random.PCG64(seed))
    chosen: list[int] = []
    for label in (False, True):
        members = [i for i, is_fake in enumerate(fake) if is_fake == label]
        chosen += generator.permutation(members)[:MOST].tolist() if len(members) > MOST else members
    return sorted(chosen)


def _group_codes(groups: Sequence[str], labels: Flags) -> NDArray[np.int64]:
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    few = any(len(np.unique(codes[labels == label])) < 2 for label in (False, True))
    return np.arange(len(codes)) if few else codes.astype(np.int64)


def _described(fact: str, containers: Sequence[Container]) -> str:
    """What a fact mostly is in a class: `93 % png`, `median 1024 x 1024`."""
    if fact == "width and height":
        width, height = (int(np.median([getattr(c, side) for c in containers])) for side in ("width", "height"))
        return f"median {width} x {height}"
    if fact == "bytes per pixel":
        return f"median {np.median([c.bytes_per_pixel for c in containers]):.2g}"
    if fact == "quantisation tables":
        qualities = [c.quality for c in containers if c.quality is not None]
        return f"median quality {np.median(qualities):.0f}" if qualities else "none"
    words: dict[str, Callable[[Container], str]] = {
        "format": lambda c: c.format,
        "chroma subsampling": lambda c: c.subsampling or "none",
        "EXIF": lambda c: "with" if c.exif else "without",
        "ICC profile": lambda c: "with" if c.icc else "without",
        "progressive coding": lambda c: "progressive" if c.progressive else "sequential",
    }
    ((word, count),) = Counter(words[fact](c) for c in containers).most_common(1)
    return f"{math.floor(100 * count / len(containers))} % {word}"
