"""The worker without any cluster: Arrow in, Arrow out, and no image ends it."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from glass_rt import DetectOptions, GlassError
from glass_rt.bulk.rows import SCHEMA
from glass_rt.bulk.worker import BulkWorker
from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import BackendError, UsageError
from tests.glass_rt.bulk.expected import assert_same, inferred
from tests.glass_rt.bulk.planted import DEAD_ON_ARRIVAL, DECODER, HANG, ill_engine, plant

pytestmark = pytest.mark.slow


def paths_table(paths: list[Path]) -> pa.Table:
    return pa.table({"path": [str(path) for path in paths]})


def test_rows_are_what_infer_says(bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    paths = [tmp_path / "absent.jpg", *photographs, tmp_path / "text.png", tmp_path]
    with BulkWorker(bundle.folder) as worker:
        table = worker.judge_table(paths_table(paths))
    assert table.schema == SCHEMA
    assert table["path"].to_pylist() == [str(path) for path in paths]
    for row, verdict in zip(table.to_pylist(), inferred(bundle, paths), strict=True):
        assert_same(row, verdict)
    assert table["error_kind"].to_pylist()[-2:] == ["format", "not_readable"]


def test_a_name_that_is_no_utf8_is_given_and_comes_back_with_escapes(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).symlink_to(photographs[0])
    written = tmp_path / r"caf\udce9.jpg"
    with BulkWorker(bundle.folder) as worker:
        (row,) = worker.judge_table(paths_table([written])).to_pylist()
    assert_same(row, inferred(bundle, [photographs[0]])[0])
    assert row["path"] == str(written)


def test_bytes_are_judged_as_files_are(bundle: Bundle, photographs: tuple[Path, ...]) -> None:
    data = [path.read_bytes() for path in photographs[:3]]
    path = str(photographs[3])
    table = pa.table({"path": ["a", "b", "c", path], "bytes": pa.array([*data, None], pa.binary()), "other": [1] * 4})
    with BulkWorker(bundle.folder) as worker:
        rows = worker.judge_table(table).to_pylist()
    assert [row["path"] for row in rows] == ["a", "b", "c", path]
    for row, verdict in zip(rows, inferred(bundle, list(photographs[:4])), strict=True):
        assert_same(row, verdict)


def test_a_row_does_not_depend_on_its_neighbours_nor_on_threads(bundle: Bundle, photographs: tuple[Path, ...]) -> None:
    paths = list(photographs)
    with BulkWorker(bundle.folder, threads=1) as worker:
        forwards = worker.judge_table(paths_table(paths)).to_pylist()
        alone = list(itertools.chain(*(worker.judge_table(paths_table([path])).to_pylist() for path in paths[:4])))
    with BulkWorker(bundle.folder, threads=2) as worker:
        backwards = worker.judge_table(paths_table(paths[::-1])).to_pylist()
    assert backwards[::-1] == forwards
    assert alone == forwards[:4]


def test_options_reach_the_detector(bundle: Bundle, photographs: tuple[Path, ...]) -> None:
    options = DetectOptions(crops=3, seed=7, draws=2, threshold=0.0)
    with BulkWorker(bundle.folder, options) as worker:
        (row,) = worker.judge_table(paths_table([photographs[0]])).to_pylist()
    assert (row["label"], row["seed"], len(row["crops"])) == ("none", 7, 6)  # untrained, at any threshold
    assert len(row["probabilities_of_draws"]) == 2


def test_the_resize_only_model_gives_rows_without_crops(bundles, photographs: tuple[Path, ...]) -> None:  # type: ignore[no-untyped-def]
    resize = bundles("mobilenet_v3_small", "resize")
    with BulkWorker(resize.folder) as worker:
        (row,) = worker.judge_table(paths_table([photographs[0]])).to_pylist()
    assert_same(row, inferred(resize, [photographs[0]])[0])
    assert (row["crops"], row["architecture"]) == ([], "resize")


def test_images_that_kill_their_process_cost_their_own_rows(
    bundle: Bundle, photographs: tuple[Path, ...], poison: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plant(tmp_path / "planted", DECODER))
    good = list(photographs[:8])
    paths = [poison, *good[:4], poison, poison, *good[4:]]
    with BulkWorker(bundle.folder) as worker:
        rows = worker.judge_table(paths_table(paths)).to_pylist()
        again = worker.judge_table(paths_table(good)).to_pylist()
    lethal = [row for row in rows if row["path"] == str(poison)]
    assert [row["error_kind"] for row in lethal] == ["lethal"] * 3
    assert lethal[0]["error"] == "the process that judged this image alone was killed by SIGSEGV"
    judged = [row for row in rows if row["path"] != str(poison)]
    assert judged == again
    for row, verdict in zip(judged, inferred(bundle, good), strict=True):
        assert_same(row, verdict)


def test_an_image_that_hangs_its_decoder_is_given_up(
    bundle: Bundle, photographs: tuple[Path, ...], poison: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plant(tmp_path / "planted", DECODER))
    hanging = tmp_path / "hanging.jpg"
    hanging.write_bytes(poison.read_bytes() + HANG)
    with BulkWorker(bundle.folder, stall_s=3) as worker:
        rows = worker.judge_table(paths_table([hanging, photographs[0]])).to_pylist()
    assert [row["error_kind"] for row in rows] == ["lethal", None]
    assert rows[0]["error"] == "the process that judged this image alone gave no answer for 3 s and was stopped"


def test_a_process_that_is_killed_from_outside_is_laid_at_no_images_door(
    bundle: Bundle, photographs: tuple[Path, ...]
) -> None:
    paths = [str(path) for path in photographs] * 3
    with BulkWorker(bundle.folder) as worker:
        rows, pids = [], set()
        for number, row in enumerate(worker.rows((path, None) for path in paths)):
            rows.append(row)
            if number in (5, 15) and worker.pid is not None:
                pids.add(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
    assert len(pids) == 2
    assert [row["path"] for row in rows] == paths
    verdicts = inferred(bundle, list(photographs))
    for row, verdict in zip(rows, verdicts * 3, strict=True):
        assert_same(row, verdict)


def test_an_engine_that_fails_now_and_then_costs_no_row(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plant(tmp_path / "planted", ill_engine(4)))
    paths = list(photographs[:8])
    with BulkWorker(bundle.folder) as worker:
        rows = worker.judge_table(paths_table(paths)).to_pylist()
    assert (tmp_path / "planted" / "simplejpeg.py.failed").exists(), "it failed, or nothing was tested"
    for row, verdict in zip(rows, inferred(bundle, paths), strict=True):
        assert_same(row, verdict)


def test_an_engine_that_fails_on_images_says_so_in_their_rows(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plant(tmp_path / "planted", ill_engine(2)))  # enough for the test picture
    with BulkWorker(bundle.folder) as worker:
        rows = worker.judge_table(paths_table(list(photographs[:2]))).to_pylist()
    assert [(row["error_kind"], row["error"]) for row in rows] == [
        ("backend", "ONNX Runtime cannot run the engine: the device is lost")
    ] * 2


def test_an_engine_that_always_fails_ends_the_work_and_writes_no_rows(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plant(tmp_path / "planted", ill_engine(0)))
    with BulkWorker(bundle.folder) as worker, pytest.raises(GlassError, match="the device is lost"):
        worker.judge_table(paths_table([photographs[0]]))


def test_a_process_that_cannot_live_ends_the_work(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plant(tmp_path / "planted", DEAD_ON_ARRIVAL))
    with (
        BulkWorker(bundle.folder) as worker,
        pytest.raises(BackendError, match="was killed by SIGKILL while it opened"),
    ):
        worker.judge_table(paths_table([photographs[0]]))


def test_another_bundle_than_expected_is_refused(bundle: Bundle) -> None:
    with (
        BulkWorker(bundle.folder, expect_bundle="0" * 64) as worker,
        pytest.raises(GlassError, match="is another bundle"),
    ):
        worker.judge_table(pa.table({"path": ["a.jpg"]}))


def test_rows_given_up_half_way_do_not_reach_the_next_caller(bundle: Bundle, photographs: tuple[Path, ...]) -> None:
    paths = list(photographs)
    with BulkWorker(bundle.folder) as worker:
        rows = worker.rows((str(path), None) for path in paths)
        next(rows)
        rows.close()  # type: ignore[attr-defined]  # a generator
        table = worker.judge_table(paths_table(paths[::-1]))
    assert table["path"].to_pylist() == [str(path) for path in paths[::-1]]
    assert table["sha256"].to_pylist() == [verdict.get("sha256") for verdict in inferred(bundle, paths[::-1])]


def test_no_process_is_left_when_the_worker_closes(bundle: Bundle, photographs: tuple[Path, ...]) -> None:
    worker = BulkWorker(bundle.folder)
    worker.judge_table(paths_table([photographs[0]]))
    pid = worker.pid
    assert pid is not None
    assert Path(f"/proc/{pid}").exists()
    worker.close()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"file": ["a"]}), "a batch has the columns file; expected path"),
        (pa.table({"path": [b"a.jpg"]}), "path holds binary; expected strings"),
        (pa.table({"path": ["a.jpg"], "bytes": ["text"]}), "bytes holds string; expected binaries"),
        (pa.table({"path": pa.array(["a", None], pa.string())}), "row 1 of a batch is null"),
    ],
)
def test_columns_that_name_no_images_are_refused(bundle: Bundle, table: pa.Table, message: str) -> None:
    with BulkWorker(bundle.folder) as worker, pytest.raises(UsageError, match=message):
        worker.judge_table(table)


def test_the_largest_seed_reaches_the_row(bundle: Bundle, photographs: tuple[Path, ...]) -> None:
    with BulkWorker(bundle.folder, DetectOptions(crops=1, seed=(1 << 64) - 1)) as worker:
        (row,) = worker.judge_table(paths_table([photographs[0]])).to_pylist()
    assert row["seed"] == (1 << 64) - 1


def test_wrong_usage_that_only_the_detector_sees_is_said_as_such(bundle: Bundle) -> None:
    with BulkWorker(bundle.folder, batch=1000) as worker, pytest.raises(UsageError, match="batch: got 1000"):
        worker.judge_table(pa.table({"path": ["a.jpg"]}))


class Unplugged(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose library raises an error that pyarrow's do not."""

    protocol = "unplugged"

    def isfile(self, path: str) -> bool:
        return True

    def _open(self, path: str, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("the client has been closed")


def test_a_store_that_fails_in_any_way_costs_the_rows_of_its_images(
    bundle: Bundle, photographs: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    fsspec.register_implementation("unplugged", Unplugged, clobber=True)
    names = ["hf://datasets/x.jpg", "fsspec+unplugged://store/x.jpg", str(photographs[0])]
    with BulkWorker(bundle.folder, stall_s=30) as worker:
        rows = worker.judge_table(pa.table({"path": names})).to_pylist()
    assert [row["error_kind"] for row in rows] == ["not_readable", "not_readable", None]
    assert "huggingface_hub" in rows[0]["error"]
    assert rows[1]["error"] == "RuntimeError: the client has been closed"
