"""`glass-rt bulk`: jobs larger than one process, on this machine or on a Ray cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from glass_rt.cli.chosen_bundle import chosen_bundle
from glass_rt.cli.options import detect_options, engine_option, json_option, quiet_option, worker_run_options
from glass_rt.cli.progress_line import ProgressLine
from glass_rt.inference.passed_over import PassedOver
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.results.file_names import text_from_name


@click.command(short_help="Judge very many images into Parquet, on one machine or many.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--output", required=True, metavar="TARGET", help="Folder or URI that gets the Parquet files.")
@engine_option
@click.option(
    "--column", metavar="NAME", help="Column of Parquet sources.  [default: path, bytes or image, as is there]"
)
@click.option("--resume", is_flag=True, help="Go on with the job that TARGET holds.")
@click.option(
    "--address",
    metavar="ADDRESS",
    help="A running Ray cluster, or auto.  [default: this machine; for several workers a Ray of its own]",
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Workers.  [default: one per GPU, without one per machine]"
)
@click.option(
    "--part-images", type=click.IntRange(1), metavar="N", help="Images per output file.  [default: 16 to 1024]"
)
@detect_options
@worker_run_options
@json_option
@quiet_option
def bulk(
    sources: tuple[str, ...],
    output: str,
    engine: Path | None,
    column: str | None,
    resume: bool,
    address: str | None,
    workers: int | None,
    part_images: int | None,
    options: DetectOptions,
    run: RunOptions,
    as_json: bool,
    quiet: bool,
) -> int:
    """Judge very many images into Parquet files, one row per image.

    SOURCE is a folder, a pattern, an image, a list of paths (.txt, or - for standard input), a Parquet file with paths
    or images in it, or the URI of any of these in an object store (s3://, gs://, ...).

    Whatever dies on the way, --resume goes on, and every image has exactly one row in the end. Exit code 0: all judged.
    1: some could not be judged (column error). 2: wrong usage. 130: interrupted.
    """
    from glass_rt.bulk.job import BulkJob, run_job

    job = BulkJob(
        sources,
        output,
        chosen_bundle(engine),
        options,
        run,
        column=column,
        images_per_part=part_images,
        resume=resume,
        workers=workers,
        address=address,
    )
    passed_over = PassedOver()
    line = ProgressLine(None if quiet else sys.stderr, logged=True)
    try:
        progress = run_job(job, lambda now: line.show(now.done, now.images, now.failed, now.before), passed_over)
    finally:
        line.clear()
    if not quiet:
        resumed = f" ({progress.before} before)" if progress.before else ""
        click.echo(f"{progress.images} images{resumed}, {progress.images - progress.failed} judged", err=True)
        if passed_over:
            click.echo(text_from_name(passed_over.remark()), err=True)
    if as_json:
        click.echo(json.dumps({"output": output, **vars(progress)}))
    return 1 if progress.failed else 0
