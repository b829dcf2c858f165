"""An evaluation as Markdown and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glass_bench.quality.decision_report import decision_rows, decision_tables
from glass_bench.quality.evaluation import EngineResult, EvalRecord
from glass_bench.report.plots import COLOURS, load_pyplot
from glass_bench.report.statistics import Interval
from glass_bench.report.text import rounded, table

_MOST_FLIPS = 20


def quality_markdown(record: EvalRecord, plots: Sequence[str] = ()) -> str:
    """The whole report."""
    first = record.engines[0].quality
    head = [
        f"# Evaluation on `{record.folder}`" + (f", split `{record.split}`" if record.split else ""),
        "",
        f"- {record.started}, {record.machine.cpu}, {record.machine.cores} cores: `{record.command}`",
        f"- {len(record.engines[0].judged)} images: {first.fake} fake, {first.real} real judged",
    ]
    warnings = [f"- **{line}**" for line in record.warnings]
    names, decisions = [e.name for e in record.engines], [e.decision for e in record.engines]
    parts = [
        head,
        warnings,
        quality_table(record),
        _confusions(record),
        list(decision_tables(names, decisions)),
        _group_tables(record),
        _drifts(record),
    ]
    parts.append([f"![{name.removesuffix('.png')}]({name})" for name in plots])
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def quality_table(record: EvalRecord) -> list[str]:
    """The paper's table, one column per engine."""
    rows = [
        ["accuracy", *(_interval(e.quality.accuracy) for e in record.engines)],
        ["ROC AUC", *(_interval(e.quality.auc) for e in record.engines)],
        ["F1 (weighted)", *(_interval(e.quality.f1) for e in record.engines)],
        ["precision (weighted)", *(_interval(e.quality.precision) for e in record.engines)],
        ["recall (weighted)", *(_interval(e.quality.recall) for e in record.engines)],
        ["mean confidence when right", *(_number(e.quality.confidence_right) for e in record.engines)],
        ["mean confidence when wrong", *(_number(e.quality.confidence_wrong) for e in record.engines)],
        ["ECE (15 bins)", *(_interval(e.quality.ece) for e in record.engines)],
        ["accuracy at an observed false-positive rate", *(_operating_point(e) for e in record.engines)],
        ["threshold of the figures above", *(f"{e.threshold:g}" for e in record.engines)],
        *decision_rows([e.decision for e in record.engines]),
        ["ms per image (a folder at once, one run)", *(f"~{rounded(e.ms_per_image, 2)}" for e in record.engines)],
    ]
    names = [f"{e.name} ({e.architecture}, {e.backend} {e.precision})" for e in record.engines]
    return [
        *table(["", *names], rows),
        "",
        "In brackets: 95 % intervals, exact ones of percentages, bootstrap over the images of the rest.",
    ]


def write_quality_plots(record: EvalRecord, folder: Path) -> tuple[str, ...]:
    """`roc.png`, and `drift.png` where two engines are compared; returns their names."""
    pyplot = load_pyplot()
    names = ["roc.png"]
    chart, axes = pyplot.subplots(figsize=(5.2, 5.0), layout="constrained")
    for engine, colour in zip(record.engines, COLOURS * len(record.engines), strict=False):
        x, y = _roc(engine)
        area = "" if engine.quality.auc is None else f", AUC {engine.quality.auc.value:.3f}"
        axes.plot(x, y, color=colour, label=f"{engine.name}{area}")
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="chance")
    axes.set(xlabel="real images called fake", ylabel="fake images found", title="ROC", aspect="equal")
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    chart.savefig(folder / names[0], dpi=130)
    pyplot.close(chart)
    if record.drifts:
        names.append("drift.png")
        chart, axes = pyplot.subplots(figsize=(7.0, 4.0), layout="constrained")
        for other, colour in zip(record.engines[1:], COLOURS * len(record.engines), strict=False):
            axes.hist(_differences(record.engines[0], other), bins=41, color=colour, alpha=0.6, label=other.name)
        axes.set(
            xlabel=f"P(fake) minus that of {record.engines[0].name}", ylabel="images", title="Drift, image by image"
        )
        axes.legend(frameon=False, fontsize="small", loc="upper right")
        chart.savefig(folder / names[1], dpi=130)
        pyplot.close(chart)
    return tuple(names)


def _interval(value: Interval | None) -> str:
    if value is None:
        return "-"
    bounds = "" if np.isnan(value.low) else f" ({value.low:.3f} to {value.high:.3f})"
    return f"{value.value:.3f}{bounds}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _operating_point(engine: EngineResult) -> str:
    point = engine.quality.operating_point
    if point is None:
        return "-"
    return (
        f"{point.accuracy:.3f} (FPR {point.false_positive_rate:.3f} <= {point.limit:g}, "
        f"TPR {point.true_positive_rate:.3f}, threshold {point.threshold:.3f})"
    )


def _confusions(record: EvalRecord) -> list[str]:
    rows = []
    for engine in record.engines:
        (hit, miss), (false_alarm, cleared) = engine.quality.confusion
        counts = [str(count) for count in (hit, miss, false_alarm, cleared)]
        if engine.decision.basis == "untrained":  # no image is called fake or real by noise
            counts = ["-"] * len(counts)
        rows.append([engine.name, *counts, str(engine.failures)])
    header = ["", "fake, from it on", "fake, below it", "real, from it on", "real, below it", "not judged"]
    title = "## Scores on either side of the threshold of the figures above, apart from the labels"
    return [title, "", *table(header, rows)]


def _group_tables(record: EvalRecord) -> list[str]:
    rows = []
    for engine in record.engines:
        for group in engine.groups:
            cells = [str(group.images), str(group.fake), f"{group.accuracy:.3f}", _number(group.auc)]
            rows.append([engine.name, f"{group.by} {group.name}", *cells])
    guesses = [
        f"Guessing by {guess.by} alone is right for {guess.accuracy:.0%}; by chance {guess.base_rate:.0%}."
        for guess in record.guesses
    ]
    header = ["", "class", "images", "of these fake", "accuracy", "AUC"]
    return ["## By image size and format", "", *table(header, rows, left=2), "", *guesses]


def _drifts(record: EvalRecord) -> list[str]:
    lines: list[str] = []
    for found in record.drifts:
        lines += [
            f"## {found.second} against {found.first}, image by image",
            "",
            f"{len(found.flips)} of {found.images} lie on another side of the threshold. P(fake) differs by "
            f"{found.mean:+.4f} on average; absolutely by {found.absolute.p50:.4f} (median), "
            f"{found.absolute.p99:.4f} (99 %), {found.absolute.maximum:.4f} (most).",
            "",
            *(f"- {flip.name}: {flip.first:.3f}, {flip.second:.3f}" for flip in found.flips[:_MOST_FLIPS]),
        ]
        if len(found.flips) > _MOST_FLIPS:
            lines.append(f"- and {len(found.flips) - _MOST_FLIPS} more, in eval.csv")
        lines.append("")
    return lines


def _roc(engine: EngineResult) -> tuple[list[float], list[float]]:
    scored = [item for item in engine.judged if item.probability_fake is not None]
    ordered = sorted(scored, key=lambda item: -(item.probability_fake or 0.0))
    fakes = np.cumsum([0, *(item.fake for item in ordered)])
    reals = np.cumsum([0, *(not item.fake for item in ordered)])
    return (reals / max(1, reals[-1])).tolist(), (fakes / max(1, fakes[-1])).tolist()


def _differences(first: EngineResult, second: EngineResult) -> list[float]:
    return [
        b.probability_fake - a.probability_fake
        for a, b in zip(first.judged, second.judged, strict=True)
        if a.probability_fake is not None and b.probability_fake is not None
    ]
