"""`glass-rt bulk` on Ray: every image has one row, whichever process dies on the way.

`GLASS_RT_TEST_LINKS` sets how many links to images the job has whose worker is killed; 300 where it is not set.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glass_rt import DetectOptions
from glass_rt.bulk.rows import SCHEMA
from glass_rt.bundle.bundle import Bundle
from glass_rt.results.file_names import text_from_name
from tests.glass_rt.bulk.expected import assert_same, inferred
from tests.glass_rt.bulk.planted import DECODER, plant
from tests.glass_rt.bulk.running import (
    alive,
    detectors_of,
    finish,
    parts_of,
    rows_of,
    run_bulk,
    start_bulk,
    wait_until,
    workers_of,
)
from tests.support import Bundles

pytestmark = pytest.mark.ray

LINKS = int(os.environ.get("GLASS_RT_TEST_LINKS", "300"))
CROPS = 2  # few, for the sake of time


@pytest.fixture(scope="module")
def bundle(bundles: Bundles) -> Bundle:
    return bundles("mobilenet_v3_small")


def make_album(folder: Path, links: int, photographs: tuple[Path, ...], poison: Path) -> list[str]:
    """A folder of links to images, with a poison file and one that cannot be read in the middle; all paths in it."""
    folder.mkdir()
    for number in range(links):
        target = photographs[number % len(photographs)]
        (folder / f"{number:05}{target.suffix}").symlink_to(target)
    (folder / f"{links // 2:05}-poison.jpg").symlink_to(poison)
    (folder / f"{links // 2:05}-unreadable.jpg").symlink_to(folder / "nowhere")
    return sorted(map(str, folder.iterdir()))


def assert_complete(
    target: Path, paths: list[str], bundle: Bundle, photographs: tuple[Path, ...]
) -> list[dict[str, Any]]:
    """Every path has one row; the two bad ones an error, the others what `infer` says. Returns the rows by path."""
    rows = sorted(rows_of(target), key=lambda row: str(row["path"]))
    assert [row["path"] for row in rows] == paths
    errors = {Path(row["path"]).name[6:]: (row["error_kind"], row["error"]) for row in rows if row["error_kind"]}
    assert errors == {
        "poison.jpg": ("lethal", "the process that judged this image alone was killed by SIGSEGV"),
        "unreadable.jpg": ("not_readable", "no such file"),
    }
    verdicts = dict(zip(photographs, inferred(bundle, list(photographs), DetectOptions(crops=CROPS)), strict=True))
    for row in rows:
        assert row["bundle_sha256"] == bundle.sha256
        if row["error_kind"] is None:
            assert_same(row, verdicts[Path(row["path"]).readlink()])
    assert (target / "_SUCCESS").exists()
    return rows


def test_every_image_has_one_row_though_a_worker_is_killed_half_way(
    bundle: Bundle, photographs: tuple[Path, ...], poison: Path, tmp_path: Path
) -> None:
    paths = make_album(tmp_path / "album", LINKS, photographs, poison)
    target = tmp_path / "out"
    arguments = (tmp_path / "album", "--output", target, "--engine", bundle.folder, "--crops", CROPS, "--workers", 2)
    job = start_bulk(*arguments, planted=plant(tmp_path / "planted", DECODER))
    wait_until(lambda: len(parts_of(target)) >= 3 and len(workers_of(job)) == 2, job)
    os.kill(workers_of(job)[0], signal.SIGKILL)
    said = finish(job, 1)
    assert (said["images"], said["done"], said["failed"]) == (LINKS + 2, LINKS + 2, 2)
    assert f"{LINKS + 2} images, {LINKS} judged" in said["stderr"]
    assert_complete(target, paths, bundle, photographs)


def test_a_job_whose_driver_was_killed_goes_on_and_gives_the_same(
    bundle: Bundle, photographs: tuple[Path, ...], poison: Path, tmp_path: Path
) -> None:
    paths = make_album(tmp_path / "album", 200, photographs, poison)
    planted = plant(tmp_path / "planted", DECODER)
    target = tmp_path / "out"
    arguments = (tmp_path / "album", "--output", target, "--engine", bundle.folder, "--crops", CROPS)
    job = start_bulk(*arguments, "--workers", 2, "--part-images", 5, planted=planted)
    wait_until(lambda: len(parts_of(target)) >= 5, job)
    judging = workers_of(job) + detectors_of(job)
    assert len(judging) >= 3
    job.kill()
    job.communicate()
    wait_until(lambda: not alive(judging))  # no process judges or writes any more
    before = {part: part.stat().st_mtime_ns for part in parts_of(target)}
    assert 5 <= len(before) < 41
    assert not (target / "_SUCCESS").exists()
    (tmp_path / "album" / "later.jpg").symlink_to(photographs[0])  # is no part of the job

    refused = run_bulk(*arguments, code=2)
    assert "--resume goes on with it" in refused["stderr"]
    refused = run_bulk(*arguments, "--resume", "--seed", 3, code=2)
    assert "begun with options" in refused["stderr"]

    said = run_bulk(*arguments, "--resume", "--workers", 1, code=1, planted=planted)  # another number of workers
    assert said["images"] == 202
    assert said["before"] == 202 - said["done"] > 0
    assert {part: part.stat().st_mtime_ns for part in before} == before
    rows = assert_complete(target, paths, bundle, photographs)
    assert not list(target.glob(".*.partial"))

    done = run_bulk(*arguments, "--resume", code=1)  # nothing is left to do, and the errors are still there
    assert (done["before"], done["done"], done["failed"]) == (202, 0, 2)
    assert sorted(rows_of(target), key=lambda row: str(row["path"])) == rows


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes, all on loopback."""
    code = (
        "import sys; from ray.cluster_utils import Cluster\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1, 'include_dashboard': False})\n"
        "cluster.add_node(num_cpus=1); print(cluster.address, flush=True); sys.stdin.read(); cluster.shutdown()"
    )
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("127.0.0.1:")
    yield address
    process.communicate("", timeout=60)


def test_a_running_cluster_judges_images_that_lie_in_parquet(
    cluster: str, bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    data = [path.read_bytes() for path in photographs]
    pq.write_table(pa.table({"image": [{"bytes": item} for item in data]}), tmp_path / "in.parquet", row_group_size=10)
    (tmp_path / "list.txt").write_text("\n".join(map(str, photographs)))
    said = run_bulk(
        tmp_path / "in.parquet", tmp_path / "list.txt", "--output", tmp_path / "out", "--engine", bundle.folder,
        "--crops", CROPS, "--address", cluster, "--part-images", 4,
    )  # fmt: skip
    count = len(photographs)
    assert (said["images"], said["done"], said["failed"]) == (2 * count, 2 * count, 0)
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    assert len(rows) == 2 * count
    for number, verdict in enumerate(inferred(bundle, list(photographs), DetectOptions(crops=CROPS))):
        assert_same(rows[str(photographs[number])], verdict)
        assert_same(rows[f"{tmp_path}/in.parquet#{number}"], verdict)
    assert pq.read_schema(parts_of(tmp_path / "out")[0]).equals(SCHEMA)


def test_what_cannot_work_is_said_in_a_line(
    cluster: str, bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    common = (photographs[0], "--output", tmp_path / "out", "--engine")
    said = run_bulk(*common, bundle.folder, "--address", "127.0.0.1:9", code=1)
    assert "Ray cannot be started or reached (127.0.0.1:9)" in said["stderr"]
    said = run_bulk(*common, tmp_path / "nothing", code=1)
    assert "nothing" in said["stderr"]
    said = run_bulk(*common, bundle.folder, "--resume", "--device", "gpu", "--workers", 1, "--address", cluster, code=2)
    assert "device: got 'gpu'; ONNX Runtime engines run on" in said["stderr"]  # before any worker starts


def test_interrupted_it_says_so_and_goes_on_later(
    cluster: str, bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    paths = [str(path) for path in photographs]
    strange = tmp_path / os.fsdecode(b"caf\xe9.jpg")  # Ray, which records the command line, holds only UTF-8
    strange.symlink_to(photographs[0])
    arguments = (
        *paths, strange, "--output", tmp_path / "out", "--engine", bundle.folder, "--workers", 2, "--part-images", 1
    )  # fmt: skip
    job = start_bulk(*arguments)
    wait_until(lambda: parts_of(tmp_path / "out"), job)
    os.killpg(job.pid, signal.SIGINT)  # as Ctrl-C does
    assert "interrupted" in finish(job, 130)["stderr"]
    assert len(parts_of(tmp_path / "out")) <= len(paths)
    run_bulk(*arguments, "--resume", "--address", cluster)
    expected = [*paths, text_from_name(str(strange))]
    assert sorted(row["path"] for row in rows_of(tmp_path / "out")) == sorted(expected)
