"""Parts to files, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from glass_rt import DetectOptions
from glass_rt.bulk.parts import PartSettings, PartWorker
from glass_rt.bulk.plan import BulkSettings, make_plan, part_name
from glass_rt.bulk.sources import find_sources
from glass_rt.bulk.stores import Stores, locate
from glass_rt.bundle.bundle import Bundle
from glass_rt.options import RunOptions
from tests.glass_rt.bulk.running import parts_of

OPTIONS = DetectOptions(crops=1)


def done(bundle: Bundle, target: Path, parts: pa.Table, run: RunOptions | None = None) -> list[dict[str, object]]:
    """The counts that a worker gives for its parts."""
    settings = PartSettings(str(bundle.folder), OPTIONS, run or RunOptions(), locate(str(target)))
    worker = PartWorker(settings)
    try:
        said: list[dict[str, object]] = worker(parts).to_pylist()
    finally:
        worker.close()
    return said


def test_a_file_that_lost_rows_is_named_and_no_part_gets_the_next_files_rows(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    images = pa.table({"bytes": [path.read_bytes() for path in photographs[:3]]})
    first, second, target = tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "out"
    pq.write_table(images, first)
    pq.write_table(images.slice(0, 1), second)
    settings = BulkSettings.of(bundle.sha256, OPTIONS, [], None)
    parts = make_plan(settings, find_sources([str(first), str(second)], Stores())).parts

    pq.write_table(images.slice(0, 2), first)
    (said,) = done(bundle, target, parts)
    assert said["failure"] == f"{first}: it has fewer rows than when the job was planned; it was replaced"
    assert not parts_of(target)

    pq.write_table(images, first)
    assert [(counts["part"], counts["images"], counts["errors"]) for counts in done(bundle, target, parts)] == [
        (0, 3, 0),
        (1, 1, 0),
    ]
    assert pq.read_table(target / part_name(0))["path"].to_pylist() == [f"{first}#{row}" for row in range(3)]
    assert pq.read_table(target / part_name(1))["path"].to_pylist() == [f"{second}#0"]


def test_a_data_set_s_rows_are_judged_from_bytes_or_path_and_fail_alone(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    first, second = (path.read_bytes() for path in photographs[:2])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.jpg").write_bytes(second)
    cells = [
        {"bytes": first, "path": "no.jpg"},
        {"bytes": None, "path": "images/b.jpg"},
        {"bytes": None, "path": None},
        {"bytes": None, "path": "absent.jpg"},
        {"bytes": second, "path": None},
    ]
    file, target = tmp_path / "set.parquet", tmp_path / "out"
    pq.write_table(pa.table({"image": cells}), file)
    settings = BulkSettings.of(bundle.sha256, OPTIONS, [], None)
    (said,) = done(bundle, target, make_plan(settings, find_sources([str(file)], Stores())).parts)
    assert (said["images"], said["errors"]) == (5, 2)
    rows = pq.read_table(target / part_name(0)).to_pylist()
    assert [row["path"] for row in rows] == [f"{file}#{number}" for number in range(5)]
    assert rows[1]["sha256"] == rows[4]["sha256"]
    assert rows[1]["probability_fake"] == rows[4]["probability_fake"]
    assert [row["error_kind"] for row in rows] == [None, None, "not_readable", "not_readable", None]
    assert rows[2]["error"] == "the row has no image: image.bytes and image.path are null"


def test_a_part_that_is_there_is_counted_and_not_judged_again(
    bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    names = [str(photographs[0]), "/absent.jpg"]
    parts = make_plan(BulkSettings.of(bundle.sha256, OPTIONS, [], None), names).parts
    target = tmp_path / "out"
    first = done(bundle, target, parts)
    written = parts_of(target)[0].stat().st_mtime_ns
    assert done(bundle, target, parts) == first
    assert (first[0]["images"], first[0]["errors"]) == (2, 1)
    assert parts_of(target)[0].stat().st_mtime_ns == written


def test_a_failure_says_of_what_kind_it_is(bundle: Bundle, tmp_path: Path) -> None:
    parts = make_plan(BulkSettings.of(bundle.sha256, OPTIONS, [], None), ["/absent.jpg"]).parts
    (said,) = done(bundle, tmp_path, parts, RunOptions(batch=1000))
    assert said["failure_kind"] == "usage"
