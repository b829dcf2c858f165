"""A record as pictures: PNG files for the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glass_bench.measure.record import ContenderEntry, Record
from glass_bench.measure.systems import STAGES
from glass_bench.report.compare import BUSY_SHARE
from glass_bench.report.figures import baseline_of, crop_fit, stage_times, valid_runs
from glass_rt.errors import MissingDependency
from glass_rt.machine.cache_files import place_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
_SIZE, _DPI = (8.0, 4.5), 130


def write_plots(record: Record, folder: Path) -> tuple[str, ...]:
    """Writes the plots that the record has data for; returns their names."""
    pyplot = load_pyplot()
    drawn = []
    for name, draw in _PLOTS.items():
        chart, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
        if draw(record, axes):
            chart.supxlabel(_caption(record), fontsize="x-small", color="#555555")
            chart.savefig(folder / name, dpi=_DPI)
            drawn.append(name)
        pyplot.close(chart)
    return tuple(drawn)


def load_pyplot() -> Any:
    """matplotlib.pyplot with a backend that needs no display; raises MissingDependency."""
    place_matplotlib()
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingDependency("matplotlib", "bench", "drawing plots") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _caption(record: Record) -> str:
    machine = record.machine
    parts = [machine.cpu.split(" (")[0], f"{machine.cores} cores", *(gpu["name"] for gpu in machine.gpus)]
    sizes = [image.width * image.height / 1e6 for image in record.images]
    if sizes:
        parts.append(f"{len(sizes)} images of {min(sizes):.1f} to {max(sizes):.1f} MP")
    parts += [record.started[:10], f"glass-rt {machine.packages.get('glass-rt', '?')}"]
    if record.load.foreign_share is not None and record.load.foreign_share > BUSY_SHARE:
        parts.append(f"BUSY MACHINE ({record.load.foreign_share:.0%} other work)")
    return "cost only; " + ", ".join(parts)


def _label(record: Record, entry: ContenderEntry) -> str:
    few = entry.sampling == "tiles" and len(record.tile_images) < len(record.images)
    return f"{entry.name}, {len(record.tile_images)} of {len(record.images)} images" if few else entry.name


def _latency_cdf(record: Record, axes: Axes) -> bool:
    entries = [entry for entry in _main_entries(record) if valid_runs(entry, "single_stream")]
    for entry in entries:
        values = np.sort([value for run in valid_runs(entry, "single_stream") for value in run.inside_ms])
        shares = np.arange(1, len(values) + 1) / len(values)
        dashed = "-" if entry.role in ("engine", "baseline") else "--"
        axes.step(values, shares, dashed, where="post", label=_label(record, entry), color=_colour(record, entry))
    axes.set(
        xlabel="ms per image (SingleStream)", ylabel="share of queries", title="Latency", xscale="log", ylim=(0, 1.02)
    )
    axes.xaxis.set_major_formatter("{x:g}")
    return _finish(axes, bool(entries), outside=True)


def _throughput_crops(record: Record, axes: Axes) -> bool:
    entries = [entry for entry in record.contenders if entry.crop_sweep]
    for entry in entries:
        colour = _colour(record, entry)
        x = np.array([point.x for point in entry.crop_sweep])
        axes.plot(x, [1e3 / np.median(p.ms) for p in entry.crop_sweep], "o", color=colour, label=entry.name)
        fit = crop_fit(entry)
        if fit is not None:
            fine = np.linspace(x[0], x[-1], 100)
            label = f"{fit.time.intercept:.0f} ms + {fit.time.slope:.1f} ms per crop, R2 {fit.time.r2:.4f}"
            axes.plot(fine, 1e3 / (fit.time.intercept + fit.time.slope * fine), "-", color=colour, label=label)
        _baseline_line(record, entry, axes)
    axes.set(
        xlabel="crops", ylabel="images per second, one at a time", title="Throughput against crops", ylim=(0, None)
    )
    return _finish(axes, bool(entries))


def _baseline_line(record: Record, entry: ContenderEntry, axes: Axes) -> None:
    """The resize-only model on the image of the sweep: the one of median size."""
    baseline = baseline_of(record, entry)
    middle = len(record.images) // 2
    values = [
        value
        for run in (valid_runs(baseline, "single_stream") if baseline else [])
        for image, value in zip(run.images, run.inside_ms, strict=True)
        if image == middle
    ]
    if baseline is not None and values:
        colour = _colour(record, baseline)
        axes.axhline(
            1e3 / float(np.median(values)), color=colour, linestyle="--", label=f"{baseline.name} (resize-only)"
        )


def _throughput_size(record: Record, axes: Axes) -> bool:
    entries = [entry for entry in record.contenders if entry.size_sweep]
    for entry in entries:
        x = [point.x for point in entry.size_sweep]
        style = "o--" if entry.role == "baseline" else "o-"
        medians = [1e3 / np.median(point.ms) for point in entry.size_sweep]
        axes.plot(x, medians, style, color=_colour(record, entry), label=entry.name)
    axes.set(
        xlabel="megapixels", ylabel="images per second, one at a time", title="Throughput against image size",
        xscale="log", yscale="log",
    )  # fmt: skip
    if entries:
        ticks = sorted({point.x for entry in entries for point in entry.size_sweep})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
    return _finish(axes, bool(entries))


def _stage_bars(record: Record, axes: Axes) -> bool:
    found = [
        (_label(record, entry), stages) for entry in _main_entries(record) if (stages := stage_times(entry)) is not None
    ]
    names = [name for name, _ in found]
    left = np.zeros(len(found))
    for stage, colour in zip(STAGES, COLOURS, strict=False):
        widths = np.array([stages.stages_ms[stage] for _, stages in found])
        axes.barh(names, widths, left=left, color=colour, label=stage.replace("_", " "))
        left = left + widths
    axes.invert_yaxis()
    axes.set(xlabel="mean ms per image (SingleStream)", title="Where the time goes")
    return _finish(axes, bool(found))


def _memory(record: Record, axes: Axes) -> bool:
    entries = [entry for entry in _main_entries(record) if entry.peak_mb is not None]
    names, peaks = [entry.name for entry in entries], [entry.peak_mb or 0.0 for entry in entries]
    bars = axes.barh(names, peaks, color=[_colour(record, entry) for entry in entries])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(xlabel="peak resident memory of its process, MB", title="Memory")
    axes.spines[["top", "right"]].set_visible(False)
    return bool(entries)


def _main_entries(record: Record) -> list[ContenderEntry]:
    return [entry for entry in record.contenders if entry.variant_of is None]


def _colour(record: Record, entry: ContenderEntry) -> str:
    names = [other.name for other in _main_entries(record)]
    return COLOURS[names.index(entry.name) % len(COLOURS)] if entry.name in names else COLOURS[-1]


def _finish(axes: Axes, has_data: bool, *, outside: bool = False) -> bool:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if has_data:
        where = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if outside else {"loc": "upper right"}
        axes.legend(frameon=False, fontsize="small", **where)
    return has_data


_PLOTS: dict[str, Callable[[Record, Axes], bool]] = {
    "latency.png": _latency_cdf,
    "stages.png": _stage_bars,
    "crops.png": _throughput_crops,
    "size.png": _throughput_size,
    "memory.png": _memory,
}
