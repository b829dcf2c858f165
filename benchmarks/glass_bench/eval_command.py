"""`glass-rt eval`: how often is an engine right on labelled images?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.option_group import option_group
from glass_rt.cli.options import (
    crop_count_option,
    draws_option,
    json_option,
    labels_option,
    max_pixels_option,
    quiet_option,
    sampling_option,
    several_run_options,
    split_option,
    threshold_option,
)
from glass_rt.cli.output_path import OutputPath
from glass_rt.machine.one_writer import only_writer_in
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.progress import reporter, silent
from glass_rt.results.file_names import text_from_name

if TYPE_CHECKING:
    from glass_bench.quality.evaluation import EvalRecord
    from glass_rt.inference.passed_over import PassedOver

REPORT = "eval.md"
_judging = option_group(
    "detect", DetectOptions, (crop_count_option, draws_option, sampling_option, threshold_option, max_pixels_option)
)


def _renamed(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """The former name of --observed-fpr."""
    if value is not None:
        raise click.UsageError(
            f"--fpr is the promise of glass-rt calibrate; here the option is --observed-fpr {value}, of the rate among "
            "the images that are evaluated"
        )


@click.command(short_help="Measure how often engines are right on labelled images.")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@labels_option
@split_option
@click.option(
    "--engine", "engines", type=click.Path(path_type=Path), multiple=True, metavar="DIR",
    help="Bundle to evaluate; repeated, others are compared with the first.  [default: the one infer would use]",
)  # fmt: skip
@click.option("--output", type=OutputPath(), metavar="DIR", default=Path("eval"), show_default=True,
              help="Folder for eval.json, eval.csv, eval.md and the plots.")  # fmt: skip
@_judging
@several_run_options
@click.option("--observed-fpr", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE", default=0.05,
              show_default=True,
              help="Share of these real images called fake at which the accuracy is given.")  # fmt: skip
@click.option("--fpr", hidden=True, expose_value=False, callback=_renamed)
@click.option("--by", multiple=True, metavar="COLUMN|folder",
              help="Report the errors of each value here; repeatable.  [default: the source, if known]")  # fmt: skip
@click.option(
    "--bootstrap",
    type=click.IntRange(0),
    metavar="N",
    default=1000,
    show_default=True,
    help="Resamples for the intervals.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    default=606,
    show_default=True,
    help="Seed of the resamples.",
)
@json_option
@quiet_option
def evaluate(
    folder: Path,
    labels: str,
    split: str | None,
    engines: tuple[Path, ...],
    output: Path,
    detect: DetectOptions,
    run: RunOptions,
    observed_fpr: float,
    by: tuple[str, ...],
    bootstrap: int,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Evaluate engines on the labelled images of DIR: the paper's table, intervals, sizes and formats, flips.

    Exit code 1: images could not be judged; the others are evaluated.
    """
    from glass_bench.quality.evaluation import EvalOptions, evaluate_engines
    from glass_bench.quality.report import quality_markdown, write_quality_plots
    from glass_rt.inference.passed_over import PassedOver
    from glass_rt.labelled.labels import labelled_images
    from glass_rt.labelled.parts import images_of_split
    from glass_rt.machine.command_line import shown_command

    options = EvalOptions(detect, run, observed_fpr, bootstrap, seed, by, split)
    passed_over = PassedOver()
    found, unlabelled = labelled_images(folder, labels, passed_over)
    images = images_of_split(found, split)
    with only_writer_in(output):
        record = evaluate_engines(
            engines or (chosen_bundle(None),),
            folder,
            images,
            unlabelled,
            options,
            shown_command(sys.argv),
            silent if quiet else reporter(),
        )
        record.write(output)
        plots = write_quality_plots(record, output)
        (output / REPORT).write_text(quality_markdown(record, plots), encoding="utf-8")
    _print(record, output, as_json=as_json)
    if not quiet:
        _say_what_was_written(output, len(plots), passed_over)
    return 1 if any(engine.failures for engine in record.engines) else 0


def _print(record: EvalRecord, output: Path, *, as_json: bool) -> None:
    """The record as JSON, or its table and warnings."""
    from glass_bench.quality.report import quality_table

    if as_json:
        click.echo(json.dumps(json.loads((output / "eval.json").read_text(encoding="utf-8"))))
    else:
        click.echo("\n".join([*quality_table(record), *(f"! {warning}" for warning in record.warnings)]))


def _say_what_was_written(output: Path, plots: int, passed_over: PassedOver) -> None:
    plural = "" if plots == 1 else "s"
    written = f"wrote eval.json, eval.csv, {REPORT} and {plots} plot{plural} to {output}"
    click.echo(f"\n{text_from_name(written)}", err=True)
    if passed_over:
        click.echo(text_from_name(passed_over.remark()), err=True)
