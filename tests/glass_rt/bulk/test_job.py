"""Jobs that need no Ray: one worker on this machine, parts that all exist, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glass_rt import DetectOptions, GlassError
from glass_rt.bulk import job as bulk_job
from glass_rt.bulk.job import BulkJob, Progress, run_job
from glass_rt.bulk.on_ray import Pool
from glass_rt.bulk.parts import PartSettings, PartWorker
from glass_rt.bulk.plan import FOLDER, SUCCESS, BulkSettings, make_plan, write_plan
from glass_rt.bulk.stores import Stores, locate
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import write_manifest
from glass_rt.errors import UsageError
from glass_rt.options import RunOptions
from tests.bench_zoo import write_bundle, write_picture
from tests.glass_rt.bulk.running import parts_of, rows_of, run_bulk

OPTIONS = DetectOptions(crops=1)


@pytest.fixture
def judged(bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path) -> BulkJob:
    """A job that was killed when its last part was written: two parts of one image, the second's an error."""
    names = [str(photographs[0]), "/absent.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    sources, target = [str(tmp_path / "list.txt")], tmp_path / "out"
    plan = make_plan(BulkSettings.of(bundle.sha256, OPTIONS, sources, None), names, 1)
    write_plan(plan, locate(str(target)), Stores())
    worker = PartWorker(PartSettings(str(bundle.folder), OPTIONS, RunOptions(), locate(str(target))))
    worker(plan.parts)
    worker.close()
    return BulkJob(sources, str(target), bundle.folder, OPTIONS, resume=True)


def test_a_resumed_job_counts_the_errors_from_before(judged: BulkJob) -> None:
    assert run_job(judged) == Progress(images=2, before=2, done=0, failed=1)
    assert Path(judged.target, SUCCESS).exists()
    said = run_bulk(
        *judged.sources, "--output", judged.target, "--engine", judged.engine, "--crops", 1, "--resume", code=1
    )
    assert "2 images (2 before), 1 judged" in said["stderr"]


def test_a_part_that_is_gone_at_the_end_leaves_the_job_unfinished(judged: BulkJob) -> None:
    with pytest.raises(GlassError, match=r"part-000001\.parquet is not there; --resume"):
        run_job(judged, lambda _: parts_of(Path(judged.target))[1].unlink())
    assert not Path(judged.target, SUCCESS).exists()


def test_a_part_that_is_no_parquet_is_named(judged: BulkJob) -> None:
    parts_of(Path(judged.target))[1].write_bytes(b"")
    with pytest.raises(GlassError, match=r"part-000001\.parquet.*delete that part"):
        run_job(judged)
    assert not Path(judged.target, SUCCESS).exists()


def test_a_batch_that_no_worker_would_take_is_refused_before_anything_is_written(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    job = BulkJob([str(photographs[0])], str(tmp_path / "out"), bundle.folder, run=RunOptions(batch=1000))
    with pytest.raises(UsageError, match="batch: got 1000; this bundle takes"):
        run_job(job)
    assert not (tmp_path / "out" / FOLDER).exists()


@pytest.mark.parametrize(
    ("built_for", "device", "on_gpus"),
    [
        ("cpu", None, False),
        ("cpu", "cuda:0", True),
        ("cpu", "cuda+cpu", True),
        ("cpu", "coreml", False),  # of which Ray knows nothing
        ("cuda", None, True),  # an fp16 bundle for GPUs
        ("cuda", "cpu", False),
    ],
)
def test_workers_ask_ray_for_a_gpu_where_their_engines_run_on_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built_for: str, device: str | None, on_gpus: bool
) -> None:
    folder, pools = write_bundle(tmp_path / "zoo"), []
    manifest = Bundle.open(folder).manifest
    write_manifest(folder, replace(manifest, engine=replace(manifest.engine, device=built_for)))

    def drive(_settings: PartSettings, _units: object, pool: Pool) -> Iterator[object]:
        pools.append(pool)
        return iter(())

    monkeypatch.setattr(bulk_job, "drive_ray", drive)
    picture = write_picture(tmp_path / "a.png", (90, 90, 90))
    with pytest.raises(GlassError, match="is not there; --resume"):  # since no worker judged it
        run_job(BulkJob([str(picture)], str(tmp_path / "out"), folder, run=RunOptions(device), workers=2))
    assert [pool.gpus for pool in pools] == [on_gpus]


@pytest.mark.parametrize(
    ("job", "connected", "ray"),
    [
        ({}, False, False),
        ({"workers": 1}, False, False),
        ({"workers": 2}, False, True),
        ({"address": "auto"}, False, True),
        ({"workers": 1}, True, True),  # the caller's Ray may be many machines
        ({"run": RunOptions("cuda")}, False, True),  # which shares out GPUs
    ],
)
def test_one_worker_on_this_machine_needs_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], connected: bool, ray: bool
) -> None:
    driven = []

    def drive(*_: object) -> Iterator[object]:
        driven.append(True)
        return iter(())

    monkeypatch.setattr(bulk_job, "drive_ray", drive)
    monkeypatch.setattr(bulk_job, "judge_here", lambda *_: iter(()))
    monkeypatch.setattr(bulk_job, "ray_is_connected", lambda: connected)
    picture = write_picture(tmp_path / "a.png", (90, 90, 90))
    with pytest.raises(GlassError, match="is not there; --resume"):
        run_job(BulkJob([str(picture)], str(tmp_path / "out"), write_bundle(tmp_path / "zoo"), **job))
    assert bool(driven) == ray


def test_a_job_of_one_worker_reports_each_part_and_imports_no_ray(tmp_path: Path) -> None:
    engine, album = write_bundle(tmp_path / "zoo"), tmp_path / "album"
    album.mkdir()
    for number in range(3):
        write_picture(album / f"{number}.png", (90, 40 * number, 90))
    (album / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    target, seen = tmp_path / "out", list[int]()
    job = BulkJob([str(album)], str(target), engine, OPTIONS, images_per_part=2)
    assert run_job(job, lambda progress: seen.append(progress.done)) == Progress(images=4, before=0, done=4, failed=1)
    assert seen == [0, 2, 4]
    assert [row["error_kind"] is None for row in rows_of(target)] == [True, True, True, False]
    run_bulk(album, "--output", tmp_path / "again", "--engine", engine, "--crops", 1, code=1, planted=no_ray(tmp_path))
    told = [[row["probability_fake"] for row in rows_of(each)] for each in (target, tmp_path / "again")]
    assert told[0][3] is told[1][3] is None
    assert told[0][:3] == pytest.approx(told[1][:3], abs=1e-4)


def no_ray(folder: Path) -> Path:
    """A folder whose module `ray` cannot be imported, beside this test's own path."""
    (folder / "planted").mkdir()
    (folder / "planted" / "ray.py").write_text("raise ImportError('ray is not here')")
    return folder / "planted"


def test_an_engine_that_fails_ends_the_job_by_its_error(tmp_path: Path) -> None:
    job = BulkJob(
        [str(write_picture(tmp_path / "a.png", (9, 9, 9)))],
        str(tmp_path / "out"), write_bundle(tmp_path / "zoo"), run=RunOptions("coreml"),
    )  # fmt: skip
    with pytest.raises(GlassError, match="without the graph that this device needs"):
        run_job(job)
