"""From samples to a bundle's decision, and what is to be reported of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from glass_calibrate.answers import Answer, Answers, GroupTable, count_answers, group_tables
from glass_calibrate.guarantee import check_share
from glass_calibrate.probability import Flags, Floats, fit_curve, out_of_fold
from glass_calibrate.samples import Sample, Samples, column_of
from glass_calibrate.scoring import Scoring, score_probabilities
from glass_calibrate.thresholds import Targets, TierScores, fit_tiers, missing_sides
from glass_calibrate.tiers import tier_table
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.decision import decided_files
from glass_rt.decision.calibration import Calibration, Conditions, Tier
from glass_rt.decision.tiers import NamedRule, tier_of
from glass_rt.errors import CalibrationInvalid

FEWEST_FOR_PROBABILITY = 10  # of each class


@dataclass(frozen=True)
class Settings:
    """What is asked for. `tiers` False: one tier. `group`: the column of the source. `by`: columns of the rates.
    `split`: the part of the labelled images that is used, None: all.

    `seed`: of the draw of one image a source, of folds and of resamples. The command has no option for it: a draw that
    is chosen by its outcome promises nothing.
    """

    targets: Targets
    tiers: bool = True
    group: str | None = None
    by: tuple[str, ...] = ()
    prior: float = 0.5
    seed: int = 606
    split: str | None = None

    def __post_init__(self) -> None:
        check_share("prior", self.prior)


@dataclass(frozen=True)
class TierFinding:
    """One tier with the images that chose its thresholds, and what it cannot say."""

    tier: Tier
    real: int
    fake: int
    answers: Answers
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Probabilities:
    """How good probabilities are: the engine's own, and the calibrated ones out of fold."""

    raw: Scoring
    calibrated: Scoring


@dataclass(frozen=True, eq=False)
class Finding:
    """A calibration, and how the images that it was made from come out by it.

    `tier_names` has the tier of each counted sample. `auc`: of the counted samples' scores.
    """

    calibration: Calibration
    tiers: tuple[TierFinding, ...]
    tier_names: tuple[str, ...]
    answers: Answers
    groups: tuple[GroupTable, ...]
    probabilities: Probabilities | None
    auc: float


def fit(bundle: Bundle, conditions: Conditions, samples: Samples, settings: Settings) -> Finding:
    """The calibration of a bundle by samples that it judged under `conditions`.

    Raises CalibrationInvalid where nothing can be promised: one class is missing, all scores are equal or some are no
    numbers, or no tier has images enough.
    """
    counted = samples.counted
    check_scores(counted)
    table = tier_table(tiers=settings.tiers, stratified=conditions.sampling == "stratified")
    names = tuple(tier_of(sample.facts, table).name for sample in counted)
    by_tier = _scores_by_tier(table, names, counted)
    tiers = fit_tiers(table, by_tier, settings.targets)
    raw, fake = arrays(counted)
    enough = min(int(fake.sum()), int((~fake).sum())) >= FEWEST_FOR_PROBABILITY
    curve = fit_curve(raw, fake, settings.prior) if enough else None
    manifest = bundle.manifest
    calibration = Calibration.new(bundle.content_sha256, decided_files(manifest), conditions, tiers, curve)
    answers = _answers(counted, tiers)
    return Finding(
        calibration=calibration,
        tiers=tuple(_tier_findings(tiers, by_tier, names, answers, settings.targets)),
        tier_names=names,
        answers=count_answers(answers),
        groups=_groups(samples.unique, tiers, settings.by),
        probabilities=_probabilities(counted, settings) if enough else None,
        auc=area(raw, fake),
    )


def check_scores(samples: Sequence[Sample]) -> None:
    """Raises CalibrationInvalid for scores of one class, scores that are no numbers, and scores that are all equal."""
    for fake, kind in ((False, "real"), (True, "fake")):
        if not any(sample.fake == fake for sample in samples):
            raise CalibrationInvalid(f"there is no {kind} image with a score: both classes are needed to calibrate")
    odd = [sample.name for sample in samples if not 0 <= sample.score <= 1]  # also NaN
    if odd:
        raise CalibrationInvalid(
            f"{len(odd)} scores are no probabilities, the first that of {odd[0]}: glass-rt verify checks the engine"
        )
    if len({sample.score for sample in samples}) == 1:
        raise CalibrationInvalid(
            f"all {len(samples)} images have the score {samples[0].score:g}: the engine tells nothing apart, and no "
            "threshold would"
        )


def arrays(samples: Sequence[Sample]) -> tuple[Floats, Flags]:
    """Scores float64 (n,), and whether each is of a fake, bool (n,)."""
    return np.array([sample.score for sample in samples], np.float64), np.array([sample.fake for sample in samples])


def area(raw: Floats, fake: Flags) -> float:
    """The area under the ROC curve: how often a fake has the higher score than a real image, ties counted half."""
    real, fakes = np.sort(raw[~fake]), raw[fake]
    lower, upper = np.searchsorted(real, fakes, "left"), np.searchsorted(real, fakes, "right")
    return float((lower + upper).sum() / (2 * len(real) * len(fakes)))


def _scores_by_tier(
    table: Sequence[NamedRule], names: Sequence[str], samples: Sequence[Sample]
) -> dict[str, TierScores]:
    found = {}
    for rule in table:
        members = [sample for name, sample in zip(names, samples, strict=True) if name == rule.name]
        raw, fake = arrays(members)
        is_fake = fake.astype(bool)  # of no member NumPy makes an array of floats
        found[rule.name] = TierScores(raw[~is_fake], raw[is_fake])
    return found


def _answers(samples: Sequence[Sample], tiers: Sequence[Tier]) -> list[Answer]:
    found = []
    for sample in samples:
        thresholds = tier_of(sample.facts, tiers).thresholds
        label = thresholds.label(sample.score) if thresholds is not None else None
        found.append(Answer(sample.fake, label or "unsure"))
    return found


def _tier_findings(
    tiers: Sequence[Tier],
    by_tier: dict[str, TierScores],
    names: Sequence[str],
    answers: Sequence[Answer],
    targets: Targets,
) -> Iterator[TierFinding]:
    for tier in tiers:
        scores = by_tier[tier.name]
        members = [answer for name, answer in zip(names, answers, strict=True) if name == tier.name]
        missing = missing_sides(tier, scores, targets)
        yield TierFinding(tier, len(scores.real), len(scores.fake), count_answers(members), missing)


def _groups(samples: Sequence[Sample], tiers: Sequence[Tier], by: Sequence[str]) -> tuple[GroupTable, ...]:
    answers = _answers(samples, tiers)
    return tuple(
        table
        for column in by
        for table in group_tables(column, [column_of(sample.image, column) for sample in samples], answers)
    )


def _probabilities(samples: Sequence[Sample], settings: Settings) -> Probabilities | None:
    raw, fake = arrays(samples)
    numbers = {name: number for number, name in enumerate(sorted({sample.source for sample in samples}))}
    sources = np.array([numbers[sample.source] for sample in samples])
    held_out = out_of_fold(raw, fake, sources, settings.prior, settings.seed)
    known = np.isfinite(held_out)
    if not fake[known].any() or fake[known].all():
        return None
    return Probabilities(
        score_probabilities(raw, fake, settings.prior, settings.seed),
        score_probabilities(held_out[known], fake[known], settings.prior, settings.seed),
    )
