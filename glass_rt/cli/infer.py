"""`glass-rt infer`: images to verdicts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from glass_rt.bundle import find_bundle
from glass_rt.cli.options import engine_option, json_option, quiet_option, run_options
from glass_rt.cli.tables import FORMATS, writer_for
from glass_rt.detector import Detector
from glass_rt.errors import GlassError
from glass_rt.image.decode import DEFAULT_MAX_PIXELS, ImageSource, load
from glass_rt.image.sampling import MAX_SEED
from glass_rt.options import DetectOptions
from glass_rt.overlay import draw_overlay, write_overlay
from glass_rt.sources import find_images
from glass_rt.verdict import Failure, Verdict


@click.command(short_help="Images to verdicts.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@engine_option
@click.option("--crops", type=click.IntRange(1), metavar="K", help="Crops per image.  [default: as trained]")
@click.option(
    "--sampling",
    type=click.Choice(["stratified", "tiles"]),
    default="stratified",
    show_default=True,
    help="tiles: every window of the image.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    metavar="N",
    help="Seed of the crops, as in torch.Generator().manual_seed(N).  [default: from the file's SHA-256]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Called fake from this probability on.  [default: the bundle's]",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    metavar="N",
    help="Refuse larger images, by their header.",
)
@click.option(
    "--overlay",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the evidence pictures there.",
)
@run_options
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object per line, as they come.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@quiet_option
def infer(
    images: tuple[str, ...],
    engine: Path | None,
    crops: int | None,
    sampling: str,
    seed: int | None,
    threshold: float | None,
    max_pixels: int,
    overlay: Path | None,
    device: str | None,
    batch: int | None,
    threads: int | None,
    expect_bundle: str | None,
    as_json: bool,
    jsonl: bool,
    as_csv: bool,
    quiet: bool,
) -> int:
    """Judge images: files, folders, glob patterns, or - for standard input.

    Exit code 0: all judged. 1: some could not be judged; the others were. 2: wrong usage.
    """
    if as_json + jsonl + as_csv > 1:
        raise click.UsageError("choose one of --json, --jsonl and --csv")
    options = DetectOptions(
        crops=crops,
        sampling="tiles" if sampling == "tiles" else "stratified",
        seed=seed,
        threshold=threshold,
        max_pixels=max_pixels,
    )
    form = next((name for name, chosen in zip(FORMATS, (as_json, jsonl, as_csv), strict=False) if chosen), "table")
    single = len(images) == 1 and not Path(images[0]).is_dir() and not any(c in images[0] for c in "*?[")
    results = writer_for(form, sys.stdout, single=single)
    with Detector.open(
        find_bundle(engine), device=device, batch=batch, threads=threads, expect_bundle=expect_bundle
    ) as detector:
        for result in detector.detect_many(_sources(images), options):
            results.add(result)
            if overlay is not None and isinstance(result, Verdict):
                results.note_overlay(_write_overlay(overlay, result, options))
    results.finish(None if quiet else sys.stderr)
    return 1 if results.failed else 0


def _sources(images: tuple[str, ...]) -> Iterator[ImageSource | Failure]:
    for item in find_images(images):
        yield sys.stdin.buffer.read() if item == "-" else item


def _write_overlay(folder: Path, verdict: Verdict, options: DetectOptions) -> Path | GlassError:
    """Decodes the image again: keeping every image's pixels until its verdict is known would cost far more."""
    name = Path(verdict.path).stem if verdict.path else "stdin"
    target = folder / f"{name}.{verdict.sha256[:8]}.jpg"
    try:
        if verdict.path is None:
            raise GlassError("standard input cannot be read twice; save the image to a file for its evidence picture")
        write_overlay(target, draw_overlay(load(verdict.path, max_pixels=options.max_pixels).pixels, verdict))
    except GlassError as error:
        return error
    return target
