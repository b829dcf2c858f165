"""A bulk job from its arguments to a folder of Parquet files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from glass_rt.bulk.arrow import pa
from glass_rt.bulk.here import judge_here
from glass_rt.bulk.on_ray import Pool
from glass_rt.bulk.one_job import only_job_in
from glass_rt.bulk.parts import PartSettings, check_rows, count_errors
from glass_rt.bulk.plan import (
    FOLDER,
    FORMER_VERSION,
    SUCCESS,
    BulkPlan,
    BulkSettings,
    check_same,
    done_parts,
    has_plan,
    make_plan,
    part_name,
    read_plan,
    units,
    write_plan,
)
from glass_rt.bulk.ray_driver import drive_ray, ray_is_connected
from glass_rt.bulk.sources import find_sources
from glass_rt.bulk.stores import LOCAL, Location, Stores, locate, split_options
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.outside import check_outside
from glass_rt.errors import GlassError, UsageError
from glass_rt.inference.engines import batch_for, device_of
from glass_rt.inference.passed_over import PassedOver
from glass_rt.inference.placement import check_decode
from glass_rt.machine.device import kind_of
from glass_rt.options import DetectOptions, RunOptions


@dataclass(frozen=True)
class BulkJob:
    """A job: images to a folder with a row per image in Parquet files (`rows.SCHEMA`).

    `sources`: as `sources.find_sources` takes them. `target`: a folder or URI. `engine`: a bundle, at the same path on
    every machine; its SHA-256 is checked there. `column`: of Parquet sources.
    `images_per_part`: rows of one output file, which are judged again where a worker dies (None: by the number of
    images). `workers`, `address`: as in `on_ray.Pool`.
    """

    sources: Sequence[str]
    target: str
    engine: str | os.PathLike[str]
    options: DetectOptions = field(default_factory=DetectOptions)
    run: RunOptions = field(default_factory=RunOptions)
    column: str | None = None
    images_per_part: int | None = None
    resume: bool = False
    workers: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class Progress:
    """A job's progress, in images. `before`: done when it was resumed. `failed`: errors among all that are done."""

    images: int
    before: int
    done: int
    failed: int


def run_job(
    job: BulkJob, report: Callable[[Progress], None] = lambda _: None, passed_over: PassedOver | None = None
) -> Progress:
    """Runs a job to its end, or goes on with one that was interrupted; calls `report` after every part.

    `passed_over` is told of files that look like images of kinds that are not read, when the job is begun.
    When it returns, the target holds exactly one row per image. Raises GlassError: for wrong arguments, for a detector
    that cannot be opened, for a store that fails. Finished parts stay, for `resume`.
    """
    bundle = Bundle.open(job.engine, expect_sha256=job.run.expect_bundle)
    # Every worker would refuse it, after the plan was written.
    batch_for(bundle.manifest, job.run.batch, device=job.run.device)
    check_decode(bundle.manifest, job.run)
    plain: list[str] = []
    roots: dict[str, str] = {}
    for argument in (job.target, *job.sources):
        name, root = split_options(argument)
        plain.append(name)
        roots |= root
    target, stores = locate(plain[0].rstrip("/") or "/"), Stores(roots)
    settings = BulkSettings.of(bundle.sha256, job.options, plain[1:], job.column)
    if target.store == LOCAL:
        check_outside(Path(target.path), "--output")
    with only_job_in(target):
        return _run(job, bundle, _plan(job, settings, target, stores, passed_over), target, stores, report)


def _run(
    job: BulkJob, bundle: Bundle, plan: BulkPlan, target: Location, stores: Stores, report: Callable[[Progress], None]
) -> Progress:
    """Judges the parts that are missing, and checks that all are there."""
    done = done_parts(target, stores).intersection(plan.parts["part"].to_pylist())
    missing = plan.parts.filter(pa.array([part not in done for part in plan.parts["part"].to_pylist()], pa.bool_()))
    before = plan.images - sum(missing["images"].to_pylist())
    progress = Progress(plan.images, before, 0, count_errors(done, target, stores))
    report(progress)
    if len(missing):
        settings = PartSettings(
            engine=str(Path(job.engine).absolute()),
            options=job.options,
            run=replace(job.run, expect_bundle=bundle.sha256),
            target=target,
            column=job.column,
            roots=stores.roots,
            former_rows=plan.version == FORMER_VERSION,
        )
        gpus = kind_of(device_of(bundle.manifest, job.run.device)) == "cuda"
        pool = Pool(job.workers, job.address, gpus)
        judged = (
            judge_here(settings, missing) if _needs_no_ray(pool) else drive_ray(settings, list(units(missing)), pool)
        )
        for table in judged:
            images, errors = sum(table["images"].to_pylist()), sum(table["errors"].to_pylist())
            progress = Progress(progress.images, progress.before, progress.done + images, progress.failed + errors)
            report(progress)
    stores.remove_partial(target)
    gone = set(plan.parts["part"].to_pylist()) - done_parts(target, stores)
    if gone:
        raise GlassError(f"{target}: {part_name(min(gone))} is not there; --resume goes on with what is missing")
    check_rows(plan.parts, target, stores)
    stores.write(target / SUCCESS, b"")
    return progress


def _needs_no_ray(pool: Pool) -> bool:
    """Whether one worker on this machine judges everything. Ray's own processes take 700 MB and seconds to start."""
    return pool.address is None and not pool.gpus and pool.workers in (None, 1) and not ray_is_connected()


def _plan(
    job: BulkJob, settings: BulkSettings, target: Location, stores: Stores, passed_over: PassedOver | None
) -> BulkPlan:
    """The plan that the target holds, where the job is resumed, else a new one."""
    if has_plan(target, stores):
        if not job.resume:
            raise UsageError(
                f"output: {target} holds a job already; --resume goes on with it, another folder starts afresh"
            )
        plan = read_plan(target, stores)
        check_same(plan, settings)
        return plan
    if done_parts(target, stores):
        raise UsageError(f"output: {target} holds parts of a job, but not its plan ({FOLDER}); use another folder")
    found = find_sources(settings.sources, stores, job.column, passed_over)
    plan = make_plan(settings, found, job.images_per_part)
    write_plan(plan, target, stores)
    if target.store != LOCAL and read_plan(target, stores) != plan:
        raise UsageError(f"output: another job into {target} was begun at the same moment; use another folder")
    return plan
