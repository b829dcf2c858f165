"""Jobs that need no Ray: their parts all exist, or they are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from glass_rt import DetectOptions, GlassError
from glass_rt.bulk import job
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
from tests.glass_rt.bulk.running import parts_of, run_bulk

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

    monkeypatch.setattr(job, "drive_ray", drive)
    picture = write_picture(tmp_path / "a.png", (90, 90, 90))
    with pytest.raises(GlassError, match="is not there; --resume"):  # since no worker judged it
        run_job(BulkJob([str(picture)], str(tmp_path / "out"), folder, run=RunOptions(device)))
    assert [pool.gpus for pool in pools] == [on_gpus]
