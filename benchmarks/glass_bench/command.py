"""`glass-rt bench`: what does native-resolution evidence cost, here, against the resize-only model?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.options import (
    batch_option,
    crop_count_option,
    device_option,
    engine_option,
    memory_option,
    quiet_option,
    threads_option,
)
from glass_rt.cli.output_path import OutputPath
from glass_rt.machine.command_line import shown_command
from glass_rt.machine.one_writer import only_writer_in
from glass_rt.progress import reporter, silent
from glass_rt.results.file_names import text_from_name

if TYPE_CHECKING:
    from glass_bench.measure.record import Record

RECORD, REPORT = "bench.json", "bench.md"


@click.group(invoke_without_command=True, short_help="Measure engines against each other and against PyTorch.")
@click.option(
    "--engine", "engines", type=click.Path(path_type=Path), multiple=True, metavar="DIR",
    help="Bundle to measure; may be repeated.  [default: the one that infer would use]",
)  # fmt: skip
@click.option(
    "--baseline", "baselines", type=click.Path(path_type=Path), multiple=True, metavar="DIR",
    help="Bundle to compare with, as a rule the resize-only one of the same backbone; may be repeated.",
)  # fmt: skip
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Images to judge: yours, since cost depends on them.  [required]",
)
@click.option("--output", type=OutputPath(), metavar="DIR", default=Path("bench"), show_default=True,
              help="Folder for bench.json, bench.md and the plots.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Under a minute: engines, baselines and the no-op engine only.")
@click.option(
    "--budget", type=click.FloatRange(1), metavar="S", help="Seconds for measuring.  [default: 330, quick 16]"
)
@click.option(
    "--repeats", type=click.IntRange(1), metavar="N", default=5, show_default=True, help="Most repeats of each figure."
)
@click.option("--scenarios", metavar="LIST", help="Scenarios to run, of single,offline,server.  [default: all]")
@click.option("--sweeps", metavar="LIST", help="Sweeps to run, of crops,size,batch,workers.  [default: all]")
@crop_count_option
@device_option
@batch_option
@threads_option
@memory_option
@click.option("--batches", metavar="LIST", default="1,4,16", show_default=True, help="Batch sizes that are swept.")
@click.option(
    "--workers", metavar="LIST", default="1,2", show_default=True, help="Numbers of decoding threads that are swept."
)
@click.option(
    "--megapixels", metavar="LIST", default="1,2,5,12,24,50", show_default=True, help="Image sizes that are swept."
)
@click.option("--bound", "bound_ms", type=click.FloatRange(0, min_open=True), metavar="MS",
              help="Latency that the Server scenario holds.  [default: 3 times a single image's]")  # fmt: skip
@click.option(
    "--percentile", type=float, default=99.0, show_default=True, help="Percentile of the latencies that --bound limits."
)
@click.option(
    "--weights", "checkpoints", type=click.Path(path_type=Path, exists=True), multiple=True, metavar="FILE",
    help="Checkpoint of a trained bundle, for its PyTorch contenders; may be repeated.",
)  # fmt: skip
@click.option(
    "--pytorch/--no-pytorch", default=True, show_default=True, help="Measure the plain PyTorch pipelines too."
)
@click.option(
    "--tiles/--no-tiles", default=True, show_default=True, help="Measure GLASS with every window of the image too."
)
@click.option(
    "--noop/--no-noop", default=True, show_default=True, help="Measure the pipeline around engines that do nothing too."
)
@click.option("--same-training", is_flag=True, help="Say in the report that both sides were trained on the same data.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    default=606,
    show_default=True,
    help="Seed of the orders of images and of the arrivals.",
)
@click.option(
    "--fail-if", "conditions", multiple=True, metavar="COND", help="Exit 1 where a figure meets it: 'p99_ms>50'."
)
@quiet_option
@click.pass_context
def bench(
    context: click.Context,
    /,
    engines: tuple[Path, ...],
    images: Path | None,
    output: Path,
    quick: bool,
    budget: float | None,
    scenarios: str | None,
    sweeps: str | None,
    batches: str,
    workers: str,
    megapixels: str,
    conditions: tuple[str, ...],
    quiet: bool,
    **as_given: Any,  # fields of BenchOptions
) -> int:
    """Measure what engines cost on your images: latency, throughput, stages, crops, sizes, memory.

    Contenders run in processes of their own, on the same images and cores, in turns. Exit code 1: a contender failed
    or computes something else than its model, or a --fail-if condition is met.
    """
    if context.invoked_subcommand is not None:
        return 0
    if images is None:
        raise click.UsageError("--images DIR is needed: figures of other images than yours would be of little use")
    from glass_bench.measure import options as asked
    from glass_bench.measure.benchmark import run_benchmark
    from glass_bench.measure.loadgen import load_loadgen
    from glass_bench.measure.participants import check_device
    from glass_bench.report.checks import conditions_met
    from glass_bench.report.conditions import parse_condition
    from glass_bench.report.figures import FIGURES, failures
    from glass_bench.report.plots import load_pyplot

    limits = [parse_condition(text, FIGURES) for text in conditions]
    options = asked.BenchOptions(
        engines=engines or (chosen_bundle(None),),
        images=images,
        budget_s=budget or (asked.QUICK_BUDGET_S if quick else asked.BUDGET_S),
        scenarios=_names(scenarios, asked.SCENARIOS),
        sweeps=_names(sweeps, asked.SWEEPS),
        batches=_integers(batches),
        workers=_integers(workers),
        megapixels=_numbers(megapixels),
        **as_given,
    )
    check_device(options)
    for load in (load_pyplot, load_loadgen):  # a missing library is better known before the measuring than after
        load()
    with only_writer_in(output):
        record = run_benchmark(
            asked.quick(options) if quick else options, shown_command(sys.argv), silent if quiet else reporter()
        )
        _publish(record, output)
    met = conditions_met(record, limits)
    for line in met:
        click.echo(f"LIMIT: {line}", err=True)
    bad = any(entry.status != "measured" or failures(entry) for entry in record.contenders)
    return 1 if met or bad else 0


def _publish(record: Record, output: Path) -> None:
    """Writes the record, the report and the plots, and prints the summary."""
    from glass_bench.report.plots import write_plots
    from glass_bench.report.report import markdown, summary

    record.write(output / RECORD)
    plots = write_plots(record, output)
    (output / REPORT).write_text(markdown(record, plots), encoding="utf-8")
    click.echo(summary(record))
    written = text_from_name(
        f"wrote {RECORD}, {REPORT} and {len(plots)} plot{'' if len(plots) == 1 else 's'} to {output}"
    )
    click.echo(f"\n{written}", err=True)


@bench.command(name="compare", short_help="Compare two records.")
@click.argument("before", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("after", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--fail-if", "conditions", multiple=True, metavar="COND",
    help="Exit 1 where a ratio after/before meets it and is beyond the noise: 'p50_ms>1.1'.",
)  # fmt: skip
def compare_records(before: Path, after: Path, conditions: tuple[str, ...]) -> int:
    """Compare two records of bench: ratios of the second to the first, and whether they are beyond the noise."""
    from glass_bench.measure.record import read_record
    from glass_bench.report.compare import COMPARED, compare
    from glass_bench.report.conditions import parse_condition
    from glass_bench.report.text import figure, table, times

    limits = [parse_condition(text, COMPARED) for text in conditions]
    result = compare(read_record(before), read_record(after))
    rows = [
        [row.contender, row.figure, figure(row.before), figure(row.after), times(row.ratio), row.verdict]
        for row in result.rows
    ]
    click.echo("\n".join(table(["contender", "figure", "before", "after", "after / before", "verdict"], rows, left=2)))
    for caution in result.cautions:
        click.echo(f"! {caution}")
    met = [
        (row, limit)
        for limit in limits
        for row in result.rows
        if row.figure == limit.figure
        and limit.contender in (None, row.contender)
        and row.ratio.told_apart
        and limit.met(row.ratio.value)
    ]
    for row, limit in met:
        click.echo(
            f"LIMIT: {row.contender}: {row.figure} is {row.ratio.value:.3f} times as before ({limit.text})", err=True
        )
    return 1 if met else 0


@bench.command(short_help="Reproduce the paper's claim on a small scale: train, build, evaluate.")
@click.option("--output", type=OutputPath(), metavar="DIR", required=True, help="Folder to write.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", default=606, show_default=True)
@click.option(
    "--scenes",
    type=click.IntRange(4),
    metavar="N",
    default=100,
    show_default=True,
    help="Scenes to train on, each twice.",
)
@click.option(
    "--test-scenes",
    type=click.IntRange(4),
    metavar="N",
    default=80,
    show_default=True,
    help="Scenes to test on, each twice.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    default=8,
    show_default=True,
    help="Epochs of GLASS; resize-only gets twice as many.",
)
@click.option("--backend", default="onnxruntime", show_default=True, help="Backend of the engines, as for build.")
@quiet_option
def experiment(output: Path, seed: int, scenes: int, test_scenes: int, epochs: int, backend: str, quiet: bool) -> int:
    """Show, from a seed, that evidence at native resolution is lost to a model that sees only the resized image.

    Makes labelled pictures whose fake ones carry an upsampler's artefact, trains GLASS and resize-only on the same
    data, builds engines of both with `glass-rt build`, and evaluates the engines.
    """
    from glass_bench.experiment.claim import ClaimOptions, run_claim

    options = ClaimOptions(seed, scenes, test_scenes, epochs, backend)
    with only_writer_in(output):
        click.echo(run_claim(options, output, silent if quiet else reporter()))
    return 0


@bench.command(short_help="Measure the authors' way against ours, end to end.")
@click.option(
    "--images", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR", required=True,
    help="Photographs to judge; INT8 is calibrated on them too.",
)  # fmt: skip
@click.option("--engines", type=OutputPath(), metavar="DIR", default=Path("bundles/authors"),
              show_default=True, help="Folder of bundles BACKBONE-PRECISION; missing ones are built.")  # fmt: skip
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    metavar="NAME",
    help="Backbone to measure; may be repeated.  [default: the three]",
)
@click.option(
    "--precision", "precisions", multiple=True, type=click.Choice(["fp32", "bf16", "int8"]),
    help="Precision to measure; may be repeated.  [default: the three]",
)  # fmt: skip
@click.option("--backend", default="auto", show_default=True, help="Backend of the engines that are built.")
@click.option("--repeats", type=click.IntRange(1), metavar="N", default=2, show_default=True)
@click.option("--most", type=click.IntRange(1), metavar="N", help="Images to take part, evenly over the sizes.")
@click.option("--output", type=OutputPath(), metavar="DIR", default=Path("bench-authors"),
              show_default=True, help="Folder for authors.json and authors.md.")  # fmt: skip
@quiet_option
def authors(
    images: Path,
    engines: Path,
    backbones: tuple[str, ...],
    precisions: tuple[str, ...],
    backend: str,
    repeats: int,
    most: int | None,
    output: Path,
    quiet: bool,
) -> int:
    """Compare with what glass-rt replaces: Pillow, a float tensor of the whole image, eager PyTorch in float32.

    From image files to probabilities, on the same cores, in turns, one process per contender. Both sides have the
    same weights (untrained: they cost the same) and look at the same windows.
    """
    from glass_bench.authors.comparison import compare_with_authors
    from glass_bench.authors.engines import BACKBONES, PRECISIONS, engines_in
    from glass_bench.authors.report import write_report
    from glass_bench.measure.images import find_bench_images, thin

    with only_writer_in(output):
        stage = silent if quiet else reporter()
        found, _refused = find_bench_images(images)
        chosen = engines_in(engines, backbones or BACKBONES, precisions or PRECISIONS, backend, images, stage)
        images_taken = thin(found, most or len(found))
        comparison = compare_with_authors(chosen, images_taken, repeats, shown_command(sys.argv), stage)
        click.echo(write_report(comparison, output))
    return 0


@bench.command(name="decode", short_help="Find what decoding on the GPU changes.")
@click.option(
    "--images", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR", required=True,
    help="Your photographs, as they come: no copies that were made smaller.",
)  # fmt: skip
@engine_option
@device_option
@batch_option
@click.option("--most", type=click.IntRange(1), metavar="N", help="Images to take part, evenly over the sizes.")
@click.option("--output", type=OutputPath(dir_okay=False), metavar="FILE", default=Path("bench-decode.json"),
              show_default=True, help="The record, image by image.")  # fmt: skip
@quiet_option
def decode_check(
    images: Path,
    engine: Path | None,
    device: str | None,
    batch: int | None,
    most: int | None,
    output: Path,
    quiet: bool,
) -> int:
    """Decide by your own images whether a bundle may judge what the GPU has decoded (infer --decode device).

    Each JPEG that the GPU can decode is decoded there and on the CPU, and judged both ways. Exit code 1, and --decode
    device is refused for this bundle and GPU from then on, where a verdict changes or a logit moves by more than 0.05.
    """
    from glass_bench.measure.images import find_bench_images, thin
    from glass_bench.quality.decode_check import check_decoding, write_check
    from glass_rt.bundle.bundle import Bundle
    from glass_rt.inference.decode_gate import note_outcome
    from glass_rt.options import RunOptions

    bundle = Bundle.open(chosen_bundle(engine))
    found, _refused = find_bench_images(images)
    chosen = [(image.path, image.name) for image in thin(found, most or len(found))]
    check = check_decoding(bundle, RunOptions(device, batch), chosen, silent if quiet else reporter())
    write_check(check, output)
    note_outcome(bundle, check.device, check.refused)
    for line in check.report().splitlines():
        click.echo(text_from_name(line))
    return 1 if check.refused else 0


def _names(given: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def _integers(given: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in _names(given, ()))
    except ValueError:
        raise click.UsageError(f"got {given!r}; expected whole numbers with commas between them") from None


def _numbers(given: str) -> tuple[float, ...]:
    try:
        return tuple(float(item) for item in _names(given, ()))
    except ValueError:
        raise click.UsageError(f"got {given!r}; expected numbers with commas between them") from None
