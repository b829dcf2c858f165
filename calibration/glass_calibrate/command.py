"""`glass-rt calibrate`: labelled images and a bundle become the bundle's decision."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.outside import check_outside
from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.interrupt import stop_on_interrupt
from glass_rt.cli.option_group import option_group
from glass_rt.cli.options import (
    crop_count_option,
    draws_option,
    engine_option,
    json_option,
    labels_option,
    max_pixels_option,
    quiet_option,
    run_options,
    sampling_option,
    split_option,
)
from glass_rt.cli.output_path import OutputPath
from glass_rt.cli.progress_line import ProgressLine
from glass_rt.errors import CalibrationInvalid
from glass_rt.inference.passed_over import PassedOver
from glass_rt.machine.file_names import text_from_name
from glass_rt.machine.one_writer import only_writer_in
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.progress import reporter, silent

if TYPE_CHECKING:
    from glass_calibrate.pipeline import Request

REPORTS = Path("calibrate")

# How images are judged, as for `infer`; a chosen seed or threshold has no place here.
_judging = option_group("options", DetectOptions, (crop_count_option, draws_option, sampling_option, max_pixels_option))
_share = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(short_help="Set a bundle's thresholds on labelled images, with a guarantee.")
@click.argument(
    "labelled", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False, metavar="[LABELLED]"
)
@engine_option
@labels_option
@split_option
@click.option(
    "--fpr",
    type=_share,
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Largest share of real images that may be labelled fake.",
)
@click.option(
    "--fnr",
    type=_share,
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Largest share of fakes that may be labelled real.",
)
@click.option(
    "--confidence",
    type=_share,
    default=0.95,
    show_default=True,
    metavar="SHARE",
    help="Confidence with which each of the two limits holds.",
)
@click.option("--joint", is_flag=True, help="The confidence holds for all tiers together, not for each.")
@click.option(
    "--tiers",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Thresholds for each kind of input; off: one pair for all.",
)
@click.option("--group", metavar="COLUMN|folder", help="Of the images with one value here, one counts.")
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN|folder",
    help="Report the error rates of each value here; repeatable.  [default: the source, and --group]",
)
@click.option(
    "--prior",
    type=_share,
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Share of fakes among the images for which the calibrated probability holds.",
)
@_judging
@click.option("--report", type=OutputPath(file_okay=False), metavar="DIR",
              help="Folder for scores, report and plots.  [default: calibrate/<bundle>]")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Write the report, and leave the bundle as it is.")
@click.option("--remove", is_flag=True, help="Take the decision out of the bundle.")
@click.option("--export", "export_to", type=OutputPath(dir_okay=False), metavar="FILE",
              help="Write the bundle's decision to a file.")  # fmt: skip
@click.option("--import", "import_from", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Put an exported decision into a bundle of the same content.")  # fmt: skip
@run_options
@json_option
@quiet_option
def calibrate(
    labelled: Path | None,
    engine: Path | None,
    labels: str,
    split: str | None,
    fpr: float,
    fnr: float,
    confidence: float,
    joint: bool,
    tiers: str,
    group: str | None,
    by: tuple[str, ...],
    prior: float,
    options: DetectOptions,
    report: Path | None,
    dry_run: bool,
    remove: bool,
    export_to: Path | None,
    import_from: Path | None,
    run: RunOptions,
    as_json: bool,
    quiet: bool,
) -> int:
    """Calibrate a bundle on the labelled images of LABELLED: thresholds with a guarantee, written into the bundle.

    From then on, its label is fake above the one threshold, real below the other, and unsure between them. The images
    must be like those that will be judged, and none that the model was trained on.

    Exit code 0: done. 1: refused, or some images could not be judged; the others were, and the decision is there. 2:
    wrong usage. 130: interrupted; the scores are kept, and the same command goes on.
    """
    chosen = [name for name, given in (("LABELLED", labelled), ("--remove", remove), ("--export", export_to),
                                       ("--import", import_from)) if given]  # fmt: skip
    if len(chosen) != 1:
        got = " and ".join(chosen) or "none of them"
        raise click.UsageError(f"give one of LABELLED, --remove, --export and --import; got {got}")
    if dry_run and labelled is None:
        raise click.UsageError(f"--dry-run is for LABELLED; {chosen[0]} judges nothing")
    bundle = chosen_bundle(engine)
    if labelled is None:
        return _exchange(bundle, export_to, import_from)
    from glass_calibrate.fitting import Settings
    from glass_calibrate.pipeline import Request
    from glass_calibrate.thresholds import Targets

    settings = Settings(Targets(fpr, fnr, confidence, joint), tiers == "on", group, by, prior, split=split)
    folder = report or REPORTS / bundle.resolve().name
    check_outside(folder, "--report")
    request = Request(bundle, labelled, labels, settings, folder, options, run, dry_run)
    return _calibrate(request, as_json=as_json, quiet=quiet)


def _calibrate(request: Request, *, as_json: bool, quiet: bool) -> int:
    from glass_calibrate.pipeline import calibrate_bundle
    from glass_calibrate.report import promise, tier_table

    passed_over = PassedOver()
    with ExitStack() as stack:
        stack.enter_context(only_writer_in(request.folder))
        stopped = stack.enter_context(stop_on_interrupt())
        line = ProgressLine(None if quiet else sys.stderr)
        stack.callback(line.clear)

        def progress(done: int, total: int, failed: int) -> None:
            line.show(done, total, failed)
            if done == total:
                line.clear()

        stage = silent if quiet else reporter()
        record = calibrate_bundle(request, stopped, progress, stage, passed_over)
    if as_json:
        click.echo(json.dumps(record.to_json(), indent=2, allow_nan=False))
    else:
        click.echo("\n".join([*promise(record), "", *tier_table(record)]))
        for warning in record.warnings:
            click.echo(f"! {text_from_name(warning)}")
    if not quiet:
        click.echo(f"report: {text_from_name(str(request.folder))}", err=True)
        if passed_over:
            click.echo(text_from_name(passed_over.remark()), err=True)
        if record.installed:
            click.echo(_new_pin(request.bundle), err=True)
    return 1 if record.counts.unjudged else 0


def _new_pin(bundle: Path) -> str:
    """That the pin has changed, and what it is."""
    return f"its SHA-256 for --expect-bundle is now {Bundle.open(bundle).sha256}"


def _exchange(bundle: Path, export_to: Path | None, import_from: Path | None) -> int:
    """--remove, --export and --import, which judge no image."""
    from glass_calibrate.exchange import export_decision, import_decision
    from glass_rt.bundle.decision import remove_calibration

    if export_to is not None:
        identity = export_decision(bundle, export_to)
        click.echo(f"decision {identity} of {text_from_name(str(bundle))}: {text_from_name(str(export_to))}")
    elif import_from is not None:
        identity = import_decision(bundle, import_from)
        click.echo(f"{text_from_name(str(bundle))} has the decision {identity}; {_new_pin(bundle)}")
    elif remove_calibration(bundle):
        click.echo(f"{text_from_name(str(bundle))} has no decision any more; {_new_pin(bundle)}")
    else:
        raise CalibrationInvalid(f"{bundle} has no decision: there is nothing to remove")
    return 0
