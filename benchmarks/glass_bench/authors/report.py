"""What `bench authors` found, as Markdown: throughput, latency, memory and stages, always beside the authors' way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median

from glass_bench.authors.comparison import SIZE_CLASSES, THEIRS, AuthorsComparison, Side, SizeClass
from glass_bench.measure.record import six_digits
from glass_bench.measure.systems.base import STAGES
from glass_bench.report.statistics import distribution, ratio, repeated
from glass_bench.report.text import figure, rounded, table, times

RECORD, REPORT = "authors.json", "authors.md"


def shared_bound(decode_alone: float, engine_alone: float) -> float:
    """The most images per second where decoding and the engine share the cores.

    Alone on all cores they do `decode_alone` and `engine_alone`. Each gets the part of the cores at which neither
    waits for the other, f x decode_alone = (1 - f) x engine_alone, and that product is what both then do.
    """
    return decode_alone * engine_alone / (decode_alone + engine_alone)


def write_report(comparison: AuthorsComparison, folder: Path) -> str:
    """Writes authors.json and authors.md, and returns the latter's text."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"schema": 1, "kind": "authors", "ratios": ratios(comparison.sides), **asdict(comparison)}
    (folder / RECORD).write_text(json.dumps(six_digits(values), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text = report(comparison)
    (folder / REPORT).write_text(text, encoding="utf-8")
    return text


def report(comparison: AuthorsComparison) -> str:
    """The whole report as Markdown."""
    sides = comparison.sides
    parts = ["# The authors' way and ours", "", *_header(comparison), ""]
    for backbone in dict.fromkeys(side.backbone for side in sides):
        group = [side for side in sides if side.backbone == backbone]
        theirs = group[0]
        parts += [f"## {backbone}, {theirs.crops} crops", ""]
        for size in SIZE_CLASSES:
            if size.name in theirs.stream:
                parts += [f"### {size.name}", "", *_speed(group, theirs, size), ""]
        parts += ["### Memory, opening and drift", "", *_memory(group, theirs), ""]
        if "+cu" in comparison.machine.packages.get("torch", ""):
            parts += ["PyTorch's memory includes the CUDA libraries that its default wheel maps.", ""]
        largest = [size for size in SIZE_CLASSES if size.name in theirs.stream][-1]
        parts += [f"### Where the time of one image goes ({largest.name}, medians)", "", *_stages(group, largest), ""]
        parts += [f"### The pipeline beside its parts ({largest.name}, images per second)", "", *_parts(group), ""]
    return "\n".join(parts)


def ratios(sides: Sequence[Side]) -> dict[str, dict[str, dict[str, float]]]:
    """Throughput over the authors', by backbone, contender and size class: medians of the repeats."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for backbone in dict.fromkeys(side.backbone for side in sides):
        theirs, *ours = [side for side in sides if side.backbone == backbone]
        found[backbone] = {
            side.name: {size: median(rates) / median(theirs.stream[size]) for size, rates in side.stream.items()}
            for side in ours
        }
    return found


def _speed(group: Sequence[Side], theirs: Side, size: SizeClass) -> list[str]:
    rows = []
    for side in group:
        rate, reference = repeated(side.stream[size.name]), repeated(theirs.stream[size.name])
        alone, theirs_alone = (distribution(_singles(one, size)) for one in (side, theirs))
        ours = side is not theirs
        rows.append(
            [
                side.name,
                figure(rate),
                times(ratio(rate, reference)) if ours else "",
                rounded(alone.p50, 3),
                rounded(alone.p95, 3),
                f"{rounded(theirs_alone.mean / alone.mean, 3)}x" if ours else "",
            ]
        )
    return table(["", "images/s", "ratio", "p50 ms", "p95 ms", "ratio of means, one image"], rows)


def _singles(side: Side, size: SizeClass) -> list[float]:
    return [ms for image in side.images if size.low <= image.megapixels < size.high for ms in image.total_ms]


def _memory(group: Sequence[Side], theirs: Side) -> list[str]:
    rows = []
    for side in group:
        drift = max(
            abs(a.probability_fake - b.probability_fake) for a, b in zip(side.images, theirs.images, strict=True)
        )
        ours = side is not theirs
        rows.append(
            [
                side.name,
                _megabytes(side.peak_mb),
                f"{side.peak_mb / theirs.peak_mb:.2f}" if ours and side.peak_mb and theirs.peak_mb else "",
                _megabytes(side.opened_mb),
                rounded(side.open_s, 2) if ours else "",  # theirs is mostly the harness's work: see Side
                f"{drift:.1e}" if ours else "",
            ]
        )
    header = ["", "peak MB", "of the authors'", "MB once open", "opened in s", "largest difference in probability"]
    return table(header, rows)


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _stages(group: Sequence[Side], size: SizeClass) -> list[str]:
    rows = []
    for side in group:
        images = [image for image in side.images if size.low <= image.megapixels < size.high]
        values = {stage: median(image.stages_ms.get(stage, 0.0) for image in images) for stage in STAGES}
        whole = sum(values.values())
        rows.append([side.name, *(f"{rounded(ms, 2)} ({ms / whole:.0%})" for ms in values.values())])
    return table(["ms (share)", *(stage.replace("_", " ") for stage in STAGES)], rows)


def _parts(group: Sequence[Side]) -> list[str]:
    rows = []
    for side in group:
        if side.name == THEIRS or not side.engine_alone:
            continue
        decode, engine = mean(side.decode_alone), mean(side.engine_alone)
        bound, reached = shared_bound(decode, engine), median(list(side.stream.values())[-1])
        rows.append([side.name, *(rounded(x, 3) for x in (decode, engine, bound, reached)), f"{reached / bound:.0%}"])
    header = ["", "decode alone", "engine alone", "both sharing the cores, at most", "pipeline", "reached"]
    return table(header, rows)


def _header(comparison: AuthorsComparison) -> list[str]:
    machine, load = comparison.machine, comparison.load
    foreign = "unknown" if load.foreign_share is None else f"{load.foreign_share:.0%}"
    return [
        "From image files to probabilities, everything included, on the same cores, in turns. *authors*: Pillow, a "
        "float tensor of the whole image, eager float32 PyTorch, one image after the other, a thread per core. "
        "Untrained weights, which cost what trained ones cost; both sides have the same and look at the same windows.",
        "",
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB; "
        + ", ".join(f"{name} {number}" for name, number in machine.packages.items())
        + f"; commit {machine.git_commit}. {comparison.images} images, {comparison.repeats} repeats, "
        f"{comparison.started}. Busy with something else: {foreign} of the time.",
    ]
