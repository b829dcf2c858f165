"""A calibration as pictures: scores by tier, reliability, both errors against each other, coverage against error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from glass_calibrate.fitting import arrays
from glass_calibrate.probability import Flags, Floats, logit
from glass_calibrate.record import Record
from glass_rt.errors import MissingDependency
from glass_rt.machine.cache_files import place_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers too.
_REAL, _FAKE, _OTHER = "#0072B2", "#D55E00", "#009E73"
_DPI = 130
_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
_DET_TICKS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)


def write_plots(record: Record, folder: Path) -> tuple[str, ...]:
    """Writes the plots that the record has data for; returns their names. Raises MissingDependency."""
    pyplot = _load_pyplot()
    drawn = []
    for name, draw in _PLOTS.items():
        chart = pyplot.figure(layout="constrained")
        if draw(record, chart):
            chart.savefig(folder / name, dpi=_DPI)
            drawn.append(name)
        pyplot.close(chart)
    return tuple(drawn)


def _load_pyplot() -> Any:
    place_matplotlib()
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingDependency("matplotlib", "calibrate", "drawing plots") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _scores(record: Record, chart: Figure) -> bool:
    """One histogram a tier: the scores of both classes, on the axis of logits, with the thresholds."""
    found = [tier for tier in record.finding.tiers if tier.real or tier.fake]
    chart.set_size_inches(7.0, 1.0 + 1.9 * len(found))
    raw, fake = arrays(record.samples.counted)
    names = np.array(record.finding.tier_names)
    bins = np.linspace(*_range(logit(raw)), 41)
    for axes, tier in zip(np.atleast_1d(np.asarray(chart.subplots(len(found), sharex=True))), found, strict=True):
        for kind, colour, members in (("real", _REAL, ~fake), ("fake", _FAKE, fake)):
            mine = members & (names == tier.tier.name)
            axes.hist(logit(raw[mine]), bins, color=colour, alpha=0.6, label=f"{int(mine.sum())} {kind}")
        thresholds = tier.tier.thresholds
        if thresholds is not None:
            for value, colour, what in (
                (thresholds.fake_above, _FAKE, "fake above"),
                (thresholds.real_below, _REAL, "real below"),
            ):
                if value is not None:
                    axes.axvline(logit(np.array([value]))[0], color=colour, linestyle="--", label=f"{what} {value:.4f}")
        axes.set(title=tier.tier.name if thresholds is not None else f"{tier.tier.name}: unsure", ylabel="images")
        _finish(axes)
    axes.set_xticks(logit(np.array(_TICKS)), [f"{tick:g}" for tick in _TICKS])
    axes.set(xlabel="score, P(fake), on the axis of its logit", xlim=(bins[0], bins[-1]))
    return True


def _range(logits: Floats) -> tuple[float, float]:
    low, high = float(logits.min()), float(logits.max())
    margin = 0.02 * (high - low)
    return low - margin, high + margin


def _reliability(record: Record, chart: Figure) -> bool:
    probabilities = record.finding.probabilities
    if probabilities is None:
        return False
    chart.set_size_inches(5.2, 5.0)
    axes = chart.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="as it says")
    for name, scoring, colour in (
        ("raw", probabilities.raw, _OTHER),
        ("calibrated, out of fold", probabilities.calibrated, _FAKE),
    ):
        x = [found.mean for found in scoring.reliability]
        y = np.array([found.share for found in scoring.reliability])
        below = y - [found.low for found in scoring.reliability]
        above = np.array([found.high for found in scoring.reliability]) - y
        errors = np.clip(np.stack([below, above]), 0, None)
        axes.errorbar(x, y, errors, color=colour, fmt="o-", capsize=3, label=name)
    prior = probabilities.raw.prior
    axes.set(
        xlabel="probability", ylabel=f"share of fakes, at the prior {prior:g}", title="Reliability", aspect="equal"
    )
    _finish(axes)
    return True


def _det(record: Record, chart: Figure) -> bool:
    from scipy.special import ndtri

    chart.set_size_inches(5.2, 5.0)
    axes = chart.subplots()
    false_alarms, misses = _errors(*arrays(record.samples.counted))
    drawn = (false_alarms > 0) & (misses > 0)
    axes.plot(ndtri(false_alarms[drawn]), ndtri(misses[drawn]), color=_FAKE)
    ticks = ndtri(np.array(_DET_TICKS))
    axes.set_xticks(ticks, [f"{tick:.1%}" for tick in _DET_TICKS], rotation=60)
    axes.set_yticks(ticks, [f"{tick:.1%}" for tick in _DET_TICKS])
    axes.set(xlabel="real images above a threshold", ylabel="fakes not above it", title="Detection error trade-off")
    axes.axvline(ndtri(record.settings.targets.fpr), color="#999999", linestyle=":", label="--fpr")
    _finish(axes, "upper right")
    return bool(drawn.any())


def _coverage(record: Record, chart: Figure) -> bool:
    """Both errors at one rate, from small to large: what share is decided, and how often that is wrong."""
    chart.set_size_inches(6.0, 4.2)
    axes = chart.subplots()
    raw, fake = arrays(record.samples.counted)
    real, fakes = np.sort(raw[~fake]), np.sort(raw[fake])
    shares, errors = [], []
    for rate in np.linspace(0, 0.5, 101):
        above = real[len(real) - 1 - min(int(rate * len(real)), len(real) - 1)]
        below = fakes[min(int(rate * len(fakes)), len(fakes) - 1)]
        if below > above:
            above = below = (above + below) / 2
        called_fake, called_real = raw > above, raw < below
        decided = int((called_fake | called_real).sum())
        if decided:
            shares.append(decided / len(raw))
            errors.append(int((called_fake & ~fake).sum() + (called_real & fake).sum()) / decided)
    axes.plot(shares, errors, color=_FAKE, label="one rate for both errors, on these images")
    answers = record.finding.answers
    if answers.decided.value is not None and answers.wrong.value is not None:
        axes.plot(answers.decided.value, answers.wrong.value, "o", color=_REAL, label="this calibration")
    axes.set(xlabel="share of images decided", ylabel="share of these that is wrong", title="Coverage against error")
    _finish(axes)
    return bool(shares)


def _errors(raw: Floats, fake: Flags) -> tuple[Floats, Floats]:
    """At every score as a threshold: the share of real images above, and of fakes not above."""
    thresholds = np.unique(raw)
    real, fakes = np.sort(raw[~fake]), np.sort(raw[fake])
    above = 1 - np.searchsorted(real, thresholds, "right") / len(real)
    return above, np.searchsorted(fakes, thresholds, "right") / len(fakes)


def _finish(axes: Axes, legend: Literal["upper left", "upper right"] = "upper left") -> None:
    """`legend`: where it stands; to let matplotlib look for the best place takes seconds on a busy machine."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize="small", loc=legend)


_PLOTS: dict[str, Callable[[Record, Figure], bool]] = {
    "scores.png": _scores,
    "reliability.png": _reliability,
    "det.png": _det,
    "coverage.png": _coverage,
}
