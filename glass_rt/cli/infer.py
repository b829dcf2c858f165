"""`glass-rt infer`: images to verdicts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import click

from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.image_sources import HeldImages, ImageSources
from glass_rt.cli.interrupt import stop_on_interrupt
from glass_rt.cli.options import detect_options, engine_option, json_option, quiet_option, run_options
from glass_rt.cli.output_path import OutputPath
from glass_rt.cli.progress_line import ProgressLine
from glass_rt.cli.tables import FORMATS, CountedResults, writer_for
from glass_rt.detector import Detector
from glass_rt.errors import GlassError
from glass_rt.image.encoded import read_image
from glass_rt.inference.find_images import find_images, is_pattern
from glass_rt.inference.passed_over import PassedOver
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.results.file_names import text_from_name
from glass_rt.results.output import Output, open_output
from glass_rt.results.overlay import draw_overlay, drawing_bytes, write_overlay
from glass_rt.results.verdict import Failure, Verdict

_LONGEST_NAME = 255  # bytes


@click.command(short_help="Judge images.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@engine_option
@detect_options
@click.option(
    "--overlay",
    type=OutputPath(file_okay=False),
    metavar="DIR",
    help="Write the evidence pictures there.",
)
@click.option(
    "--output",
    type=OutputPath(),
    metavar="FILE",
    help="Append the results to a .jsonl, .csv or .parquet file instead of printing them.",
)
@click.option("--resume", is_flag=True, help="Go on with the file of --output: skip the images it holds.")
@run_options
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object per line, as they come.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@quiet_option
def infer(
    images: tuple[str, ...],
    engine: Path | None,
    options: DetectOptions,
    overlay: Path | None,
    output: Path | None,
    resume: bool,
    run: RunOptions,
    as_json: bool,
    jsonl: bool,
    as_csv: bool,
    quiet: bool,
) -> int:
    """Judge images: files, folders, glob patterns, or - for standard input.

    Exit code 0: all judged. 1: some could not be judged; the others were. 2: wrong usage. 130: interrupted; Ctrl-C
    finishes the images in flight, a second one stops at once.

    A file of --output gets every image once. Images that could not be read, and those on which the engine failed, are
    named on stderr instead, and --resume tries them again.
    """
    if as_json + jsonl + as_csv + (output is not None) > 1:
        raise click.UsageError("choose one of --json, --jsonl, --csv and --output")
    if resume and output is None:
        raise click.UsageError("--resume goes on with the file of --output")
    _check_overlay(overlay, images)
    form = next((name for name, chosen in zip(FORMATS, (as_json, jsonl, as_csv), strict=False) if chosen), "table")
    single = len(images) == 1 and not os.path.isdir(images[0]) and not is_pattern(images[0])
    results = CountedResults(sys.stderr) if output else writer_for(form, sys.stdout, single=single)
    passed_over = PassedOver()
    with ExitStack() as stack:
        detector = stack.enter_context(Detector.open(chosen_bundle(engine), run))
        journal = stack.enter_context(open_output(output, resume=resume)) if output else None
        stopped = stack.enter_context(stop_on_interrupt())
        held = HeldImages(journal)
        found, total = _found(images, held, passed_over, show_progress=not quiet and sys.stderr.isatty())
        line = ProgressLine(None if quiet or (form == "table" and not output) else sys.stderr)
        stack.callback(line.clear)
        sources = ImageSources(found, held, stopped, keep=overlay is not None)
        for each in detector.detect_many(sources, options):
            result, data = sources.result_and_bytes(each)
            if journal is not None and isinstance(result, Failure):
                line.clear()
            results.add(result)
            if journal is not None and (isinstance(result, Verdict) or result.lasting):
                journal.add(result)
            if overlay is not None and isinstance(result, Verdict):
                results.note_overlay(_write_overlay(detector, overlay, result, data, options))
            line.show(results.count, total, results.failed)
    results.finish(None if quiet else sys.stderr)
    if passed_over and not quiet:
        click.echo(text_from_name(passed_over.remark()), err=True)
    if held.count and not quiet:
        rest = "" if results.count or stopped.is_set() else "; nothing was left to judge"
        click.echo(text_from_name(f"{output}: images that are in it already: {held.count}{rest}"), err=True)
    failed_before = _failed_before(output, journal, quiet=quiet)
    if stopped.is_set():
        raise KeyboardInterrupt
    return 1 if results.failed or results.undrawn or failed_before else 0


def _failed_before(path: Path | None, journal: Output | None, *, quiet: bool) -> int:
    """How many failures of earlier runs the file of --output holds; says so."""
    failed = journal.failed if journal else 0
    if failed and not quiet:
        click.echo(text_from_name(f"{path}: {failed} could not be judged in earlier runs"), err=True)
    return failed


def _check_overlay(overlay: Path | None, images: tuple[str, ...]) -> None:
    if overlay is None:
        return
    for folder in filter(os.path.isdir, images):
        if overlay.resolve().is_relative_to(Path(folder).resolve()):
            where = text_from_name(f"--overlay {overlay} lies in {folder}")
            raise click.UsageError(f"{where}: the next run would judge its pictures too; choose one outside")


def _found(
    images: tuple[str, ...], held: HeldImages, passed_over: PassedOver, *, show_progress: bool
) -> tuple[Iterable[str | Failure], int | None]:
    """What is to be judged, and how many; counting means listing, which is done only where somebody sees it."""
    found = filter(held.lacks, find_images(images, passed_over))
    if not show_progress:
        return found, None
    listed = list(found)
    return listed, len(listed)


def _write_overlay(
    detector: Detector, folder: Path, verdict: Verdict, data: bytes | None, options: DetectOptions
) -> Path | GlassError:
    """Decodes the image again: keeping every image's pixels until its verdict is known would cost far more.

    `data`: the image's bytes where it cannot be read again.
    """
    source = verdict.path if data is None else data
    assert source is not None, "standard input is kept"
    target = folder / _picture_name(verdict)
    try:
        encoded = read_image(source, options.max_pixels)
        with detector.holding(drawing_bytes(encoded), options.max_pixels):
            image = encoded.decode()
            if image.info.sha256 != verdict.sha256:
                raise GlassError(f"{verdict.path}: the file has changed since it was judged")
            write_overlay(target, draw_overlay(image.pixels, verdict))
    except GlassError as error:
        return error
    return target


def _picture_name(verdict: Verdict) -> str:
    """The image's name, shortened to what file systems take, and the beginning of its SHA-256."""
    end = f".{verdict.sha256[:8]}.jpg"
    name = os.fsencode(Path(verdict.path).stem) if verdict.path else b"stdin"
    room = _LONGEST_NAME - len(end)
    if len(name) > room:
        while name[room] & 0xC0 == 0x80:  # within a character of UTF-8
            room -= 1
    return os.fsdecode(name[:room]) + end
