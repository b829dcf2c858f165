"""A record as Markdown, for a decision memo."""

from __future__ import annotations

from glass_bench.measure.record import ContenderEntry, Record
from glass_bench.measure.systems import STAGES
from glass_bench.report.compare import BUSY_SHARE
from glass_bench.report.figures import (
    REFERENCE_ENGINE_MS,
    baseline_of,
    cost_ratio,
    crop_fit,
    failures,
    harness_overhead_ms,
    latency,
    mean_latency,
    overhead_percent,
    pooled_latency,
    stage_times,
    throughput,
)
from glass_bench.report.statistics import WIDE_SPREAD, Repeated, repeated
from glass_bench.report.text import figure, rounded, table, times

COST_ONLY = (
    "Cost only: this table says what each contender takes, not which is right more often. "
    "The two sides' weights are {why}."
)


def markdown(record: Record, plots: tuple[str, ...] = ()) -> str:
    """The whole report; `plots` are names of PNG files beside it."""
    parts = [
        _heading(record),
        _findings(record),
        _latency_table(record),
        _stage_table(record),
        _crop_table(record),
        _size_table(record),
        _variant_table(record),
        _server_table(record),
        _overhead(record),
        [f"![{name.removesuffix('.png')}]({name})" for name in plots],
        _footer(record),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def summary(record: Record) -> str:
    """What the terminal shows: findings and the main table."""
    return "\n\n".join("\n".join(part) for part in (_findings(record), _latency_table(record)) if part)


def _heading(record: Record) -> list[str]:
    machine = record.machine
    gpus = "; ".join(f"{gpu['name']}, driver {gpu['driver']}" for gpu in machine.gpus) or "none"
    sizes = [image.width * image.height / 1e6 for image in record.images]
    lines = [
        "# glass-rt benchmark",
        "",
        f"- {record.started}, {record.duration_s:.0f} s, glass-rt {machine.packages.get('glass-rt', '?')}, "
        f"commit {machine.git_commit or 'unknown'}: `{record.command}`",
        f"- {machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB, governor {machine.governor or 'not told'}, "
        f"GPU: {gpus}, {machine.system}, Python {machine.python}",
        f"- {', '.join(f'{name} {version}' for name, version in machine.packages.items() if name != 'glass-rt')}",
        f"- {len(record.images)} images of {min(sizes):.1f} to {max(sizes):.1f} megapixels from `{record.folder}`"
        if sizes
        else f"- no images from `{record.folder}`",
    ]
    share = record.load.foreign_share
    if share is not None and share > BUSY_SHARE:
        lines.append(
            f"- **The machine did other work meanwhile: {share:.0%} of its busy time. Measure again on a quiet one.**"
        )
    return lines


def _findings(record: Record) -> list[str]:
    lines = [f"- **{finding}**" for finding in record.findings]
    for what, of in (("latency", mean_latency), ("throughput", throughput)):
        wide = [(entry.name, value) for entry in record.contenders if (value := of(entry)) is not None and value.wide]
        if wide:
            listed = ", ".join(f"{name} ({_spread(value)})" for name, value in wide)
            lines.append(f"- repeats differ too much for a precise {what} (over {WIDE_SPREAD:.0%}): {listed}")
    lines += [f"- **{line}**" for line in _slower_twins(record)]
    lines += [f"- {line}" for line in record.skipped]
    return ["## Findings", "", *lines] if lines else []


def _spread(value: Repeated) -> str:
    return "1 run" if value.spread is None else f"{value.spread:.0%}"


def _slower_twins(record: Record) -> list[str]:
    """Engines that take longer, beyond the noise, than the fastest one of the same model and crops."""
    lines = []
    engines = [e for e in record.contenders if e.kind == "engine" and e.variant_of is None and e.description]
    for entry in engines:
        ratios = [
            (found.value, other.name)
            for other in engines
            if _same_work(entry, other) and (found := cost_ratio(entry, other)) and found.told_apart and found.value > 1
        ]
        if ratios:
            value, name = max(ratios)
            lines.append(f"{entry.name}: {rounded(value, 2)} times as slow as {name}, which runs the same model")
    return lines


def _same_work(entry: ContenderEntry, other: ContenderEntry) -> bool:
    ours, theirs = entry.description, other.description
    if entry is other or ours is None or theirs is None:
        return False
    return (ours.weights_sha256, ours.crops, entry.sampling) == (theirs.weights_sha256, theirs.crops, other.sampling)


def _latency_table(record: Record) -> list[str]:
    rows = []
    for entry in record.contenders:
        if entry.variant_of is not None:
            continue
        baseline = baseline_of(record, entry)
        cost = cost_ratio(entry, baseline) if baseline and baseline is not entry else None
        pooled = pooled_latency(entry)
        rows.append(
            [
                entry.name,
                _what(record, entry),
                figure(mean_latency(entry), "ms"),
                figure(latency(entry), "ms"),
                rounded(pooled.p90, 3) + " ms" if pooled else "-",
                rounded(pooled.p99, 3) + " ms" if pooled and pooled.count >= 100 else "-",
                figure(throughput(entry)),
                times(cost),
                f"{entry.peak_mb:.0f} MB" if entry.peak_mb else "-",
                _state(entry),
            ]
        )
    header = ["contender", "what", "mean", "p50", "p90", "p99", "images/s", "time / baseline", "peak memory", "state"]
    return [
        "## Cost per image (LoadGen-measured)",
        "",
        *table(header, rows, left=2),
        "",
        "Latency: SingleStream, one image at a time, every image once per repeat; median over repeats ± half their "
        "range; p90 and p99 over all repeats together (p99 from 100 queries on). images/s: Offline. time / baseline: "
        "on the images that both judged.",
        _cost_only(record),
    ]


def _what(record: Record, entry: ContenderEntry) -> str:
    told = entry.description
    if told is None:
        return entry.kind
    if entry.sampling == "tiles":
        looks = f"global view + every window, on {len(record.tile_images)} of {len(record.images)} images"
    else:
        looks = f"global view + {told.crops} crops" if told.architecture == "glass" else "resized image"
    engine = "engines that do nothing" if entry.kind == "no-op" else f"{told.backend} {told.precision}"
    return f"{told.backbone}, {looks}, {engine}"


def _state(entry: ContenderEntry) -> str:
    if entry.status != "measured":
        return f"**{entry.status.upper()}**"
    if failures(entry):
        return f"**{failures(entry)} queries failed**"
    return "ok" if entry.description and entry.description.trained else "ok, untrained weights"


def _cost_only(record: Record) -> str:
    if record.settings.get("same_training"):
        return (
            "The two sides' weights were trained on the same data, says --same-training; `glass-rt eval` compares them."
        )
    trained = [entry.description.trained for entry in record.contenders if entry.description]
    why = "not known to be trained on the same data" if all(trained) and trained else "untrained"
    return COST_ONLY.format(why=why)


def _stage_table(record: Record) -> list[str]:
    rows = []
    for entry in record.contenders:
        found = stage_times(entry)
        if found is not None:
            cells = [f"{rounded(found.stages_ms[stage], 3)}" for stage in STAGES]
            rows.append([entry.name, *cells, rounded(found.total_ms, 3), f"{100 * found.unaccounted:.1f} %"])
    if not rows:
        return []
    header = ["contender", *(stage.replace("_", " ") for stage in STAGES), "total", "unaccounted"]
    return [
        "## Where the time goes (mean ms per image, SingleStream)",
        "",
        *table(header, rows),
        "",
        "copy: what lies around the engines' runs on the host; transfers to a GPU count as engine time. "
        "unaccounted: total minus the stages.",
        *(["TensorRT's two engines run one after the other here; `infer` overlaps them."] if _overlaps(record) else []),
        _cost_only(record),
    ]


def _overlaps(record: Record) -> bool:
    told = [entry.description.backend for entry in record.contenders if entry.description]
    return any(backend.startswith("tensorrt") for backend in told)


def _crop_table(record: Record) -> list[str]:
    rows = []
    for entry in record.contenders:
        fit = crop_fit(entry)
        if fit is None:
            continue
        memory = (
            ["-", "-", "-"]
            if fit.memory is None
            else [f"{fit.memory.slope:.1f} MB", f"{fit.memory.intercept:.0f} MB", f"{fit.memory.r2:.4f}"]
        )
        time = [f"{rounded(fit.time.slope, 3)} ms", f"{rounded(fit.time.intercept, 3)} ms", f"{fit.time.r2:.4f}"]
        span = f"{entry.crop_sweep[0].x:.0f} to {entry.crop_sweep[-1].x:.0f}"
        rows.append([entry.name, span, *time, *memory])
    if not rows:
        return []
    header = ["contender", "crops", "time per crop", "at 0 crops", "R2", "memory per crop", "at 0 crops", "R2"]
    return ["## Cost of a crop (straight lines through the sweep)", "", *table(header, rows), "", _cost_only(record)]


def _size_table(record: Record) -> list[str]:
    entries = [entry for entry in record.contenders if entry.size_sweep]
    if not entries:
        return []
    sizes = sorted({point.x for entry in entries for point in entry.size_sweep})
    rows = []
    for entry in entries:
        by_size = {point.x: figure(repeated(point.ms)) for point in entry.size_sweep}
        rows.append([entry.name, *(by_size.get(size, "-") for size in sizes)])
    header = ["ms per image at", *(f"{size:g} MP" for size in sizes)]
    return [
        "## Image size",
        "",
        *table(header, rows),
        "",
        "Mosaics of the largest image, JPEG, one at a time.",
        _cost_only(record),
    ]


def _variant_table(record: Record) -> list[str]:
    rows = [
        [entry.name, figure(throughput(entry)), f"{entry.peak_mb:.0f} MB" if entry.peak_mb else "-", _state(entry)]
        for entry in record.contenders
        if entry.variant_of is not None
    ]
    if not rows:
        return []
    return [
        "## Batch and workers (LoadGen-measured, Offline)",
        "",
        *table(["variant", "images/s", "peak memory", "state"], rows),
        "",
        "Measured one after the other, not in turns. Workers share the cores.",
        _cost_only(record),
    ]


def _server_table(record: Record) -> list[str]:
    rows = []
    for entry in record.contenders:
        found = entry.server
        if found is None:
            continue
        enough = all(probe.early_stopping for probe in found.probes if probe.held)
        rate = "none of those tried" if found.rate is None else f"{rounded(found.rate, 3)}/s"
        bound = f"p{found.percentile:g} under {rounded(found.bound_ms, 3)} ms"
        rows.append([entry.name, bound, rate, str(len(found.probes)), str(found.queries), "yes" if enough else "no"])
    if not rows:
        return []
    header = ["contender", "bound", "highest rate that held", "rates tried", "queries each", "enough queries"]
    return [
        "## Rate under a latency bound (LoadGen-measured, Server)",
        "",
        *table(header, rows),
        "",
        "Poisson arrivals, judged one image at a time, without the server's batching; latency counts from the "
        "scheduled arrival. enough queries: LoadGen's early-stopping rule "
        "for this percentile was satisfied; where not, the rate is an estimate.",
        _cost_only(record),
    ]


def _overhead(record: Record) -> list[str]:
    entry = next(
        (entry for entry in record.contenders if entry.kind == "no-op" and overhead_percent(entry) is not None), None
    )
    if entry is None:
        return []
    own = stage_times(entry)
    pipeline = (
        f"glass-rt's own work on an image (decode, views, head) takes {rounded(own.total_ms, 3)} ms. " if own else ""
    )
    return [
        "## The harness itself",
        "",
        f"With engines that do nothing, {pipeline}LoadGen and the harness add {harness_overhead_ms(entry):.3f} ms per "
        f"query: {overhead_percent(entry):.2f} % of an engine of {REFERENCE_ENGINE_MS:.0f} ms.",
    ]


def _footer(record: Record) -> list[str]:
    return [
        "---",
        "LoadGen-measured: driven and timed by MLCommons LoadGen. These are no MLPerf results, and were not reviewed "
        "by MLCommons. Contenders run in processes of their own on the same cores, in turns; "
        f"seed {record.settings.get('seed')}.",
    ]
