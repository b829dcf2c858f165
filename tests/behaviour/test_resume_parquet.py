"""`infer --output results.parquet`: the rows of the JSON, every image exactly once, whatever happened in between."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glass_rt import DetectOptions, Detector
from glass_rt.errors import GlassError, ImageCorrupt, UsageError
from glass_rt.results.output import open_output
from glass_rt.results.parquet import SCHEMA, ParquetJournal
from glass_rt.results.verdict import Failure, Verdict
from tests.support import Bundles, Cli


@pytest.fixture(scope="module")
def verdicts(bundles: Bundles, pictures: tuple[Path, ...]) -> Iterator[tuple[Verdict, ...]]:
    """Of the first three pictures, the second with draws and the largest seed."""
    with Detector.open(bundles("mobilenet_v3_small").folder) as detector:
        yield (
            detector.detect(pictures[0]),
            detector.detect(pictures[1], DetectOptions(draws=2, seed=2**64 - 1)),
            detector.detect(pictures[2]),
        )


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each.name.startswith(path.name))


def write(path: Path, *results: Verdict | Failure, resume: bool = False) -> None:
    with ParquetJournal(path, resume=resume) as output:
        for result in results:
            output.add(result)


def test_a_row_says_what_the_json_says(verdicts: tuple[Verdict, ...], tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write(path, *verdicts)
    assert pq.read_schema(path).equals(SCHEMA)
    for row, verdict in zip(rows(path), verdicts, strict=True):
        said = json.loads(json.dumps(verdict.to_json()))
        engine, draws = said.pop("engine"), said.pop("draws")
        assert row.pop("engine") == engine.pop("name")
        assert {name: row.pop(name) for name in engine} == engine
        assert row.pop("probabilities_of_draws") == (draws and draws["probabilities_fake"])
        assert (row.pop("error_kind"), row.pop("error")) == (None, None)
        assert said.pop("schema") == 2
        decision = said.pop("decision")
        thresholds = decision.pop("thresholds") or {"fake_above": None, "real_below": None}
        assert {name: row.pop(name) for name in thresholds} == thresholds
        assert row.pop("decision_id") == decision.pop("id")
        assert {name: row.pop(name) for name in decision} == decision
        assert said.pop("probabilities") == pytest.approx(
            {"fake": row["probability_fake"], "real": 1 - row["probability_fake"]}, abs=1e-6
        )
        assert row == said


def test_every_field_of_a_verdict_has_a_column() -> None:
    spread = {"engine", "draws", "probabilities", "decision"}
    assert {field.name for field in fields(Verdict)} - spread <= set(SCHEMA.names)


def test_a_failure_has_its_error_and_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write(path, Failure("bad.jpg", ImageCorrupt("the JPEG is truncated")))
    (row,) = rows(path)
    assert {name: value for name, value in row.items() if value is not None} == {
        "path": "bad.jpg",
        "error_kind": ImageCorrupt.kind,
        "error": "the JPEG is truncated",
    }


def test_a_run_killed_in_the_middle_is_resumed(
    cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for number in range(40):
        (album / f"{number:03}.img").symlink_to(pictures[number % 4])
    (album / "broken.jpg").write_text("no image")
    output, engine = tmp_path / "r.parquet", bundles("mobilenet_v3_small").folder
    lines = tmp_path / "r.parquet.jsonl"
    command = [sys.executable, "-m", "glass_rt", "infer", str(album), "--engine", str(engine), "--output", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while (not lines.exists() or lines.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert beside(output) == ["r.parquet.jsonl"]
    again = cli("infer", album, "--engine", engine, "--output", output)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    with lines.open("a") as file:
        file.write('{"schema": 1, "path": "cut of')
    resumed = cli("infer", album, "--engine", engine, "--output", output, "--resume")
    assert "Traceback" not in resumed.stderr
    assert beside(output) == ["r.parquet"]
    found = rows(output)
    assert sorted(row["path"] for row in found) == sorted(str(path) for path in album.iterdir())
    whole = cli("infer", album, "--engine", engine, "--jsonl")
    expected = {row["path"]: row.get("probability_fake") for row in map(json.loads, whole.stdout.splitlines())}
    assert {row["path"]: row["probability_fake"] for row in found} == expected


@pytest.mark.parametrize("moment", ["before the new file is whole", "after it is whole", "after the journal is gone"])
def test_a_crash_while_the_file_is_written_loses_and_doubles_nothing(
    moment: str, verdicts: tuple[Verdict, ...], tmp_path: Path
) -> None:
    path, lines = tmp_path / "r.parquet", tmp_path / "r.parquet.jsonl"
    write(path, verdicts[0])
    before = path.read_bytes()
    write(path, verdicts[1], resume=True)
    after = path.read_bytes()
    path.write_bytes(before)  # from here on as the crash left it
    if moment != "after the journal is gone":
        lines.write_text(json.dumps(verdicts[1].to_json()) + "\n")
    if moment == "before the new file is whole":
        (tmp_path / "r.parquet.partial").write_bytes(after[: len(after) // 2])
    else:
        (tmp_path / "r.parquet.whole").write_bytes(after)
    with ParquetJournal(path, resume=True) as output:
        assert [output.holds(str(verdict.path)) for verdict in verdicts] == [True, True, False]
        output.add(verdicts[2])
    assert [row["path"] for row in rows(path)] == [verdict.path for verdict in verdicts]
    assert beside(path) == ["r.parquet"]


def test_a_finished_file_is_resumed_and_knows_renamed_images(
    cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    shutil.copy(pictures[0], album / "old.jpg")
    engine, output = bundles("mobilenet_v3_small").folder, tmp_path / "r.parquet"
    assert cli("infer", album, "--engine", engine, "--output", output).returncode == 0
    (album / "old.jpg").rename(album / "new.jpg")
    shutil.copy(pictures[1], album / "other.png")
    assert cli("infer", album, "--engine", engine, "--output", output, "--resume").returncode == 0
    assert [Path(row["path"]).name for row in rows(output)] == ["old.jpg", "other.png"]


def test_resuming_a_finished_run_leaves_its_file_as_it_is(verdicts: tuple[Verdict, ...], tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write(path, verdicts[0])
    before = path.stat()
    write(path, resume=True)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert beside(path) == ["r.parquet"]


def test_a_failed_run_keeps_its_journal(verdicts: tuple[Verdict, ...], tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with pytest.raises(KeyboardInterrupt), ParquetJournal(path, resume=False) as output:
        output.add(verdicts[0])
        raise KeyboardInterrupt
    assert beside(path) == ["r.parquet.jsonl"]
    write(path, resume=True)
    assert [row["path"] for row in rows(path)] == [verdicts[0].path]


def test_where_the_file_cannot_be_written_the_journal_stays(verdicts: tuple[Verdict, ...], tmp_path: Path) -> None:
    path, in_the_way = tmp_path / "r.parquet", tmp_path / "r.parquet.partial"
    with (
        pytest.raises(GlassError, match=r"all results are in .*r\.parquet\.jsonl"),
        open_output(path, resume=False) as out,
    ):
        out.add(verdicts[0])
        in_the_way.mkdir()
    in_the_way.rmdir()
    assert beside(path) == ["r.parquet.jsonl"]
    write(path, resume=True)
    assert [row["path"] for row in rows(path)] == [verdicts[0].path]


def test_an_output_is_never_overwritten(verdicts: tuple[Verdict, ...], tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        open_output(path, resume=False)
    with pytest.raises(UsageError, match="no Parquet file"):
        open_output(path, resume=True)
    pq.write_table(pa.table({"path": ["other"]}), path)
    with pytest.raises(UsageError, match="not a result of this version"):
        open_output(path, resume=True)
    assert rows(path) == [{"path": "other"}]
    assert beside(path) == ["r.parquet"]


def test_a_name_that_is_no_utf8_is_written_with_escapes_and_known_again(
    verdicts: tuple[Verdict, ...], tmp_path: Path
) -> None:
    path, name = tmp_path / "r.parquet", os.fsdecode(b"caf\xe9.jpg")
    write(path, replace(verdicts[0], path=name))
    assert [row["path"] for row in rows(path)] == [r"caf\udce9.jpg"]
    with ParquetJournal(path, resume=True) as output:
        assert output.holds(name)


def test_many_rows_are_converted_in_pieces(
    verdicts: tuple[Verdict, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glass_rt.results.parquet.ROWS_AT_ONCE", 2)
    path = tmp_path / "r.parquet"
    results = [replace(verdicts[0], path=str(number)) for number in range(5)]
    write(path, *results[:3])
    write(path, *results[3:], resume=True)
    assert [row["path"] for row in rows(path)] == [result.path for result in results]
    assert pq.read_metadata(path).num_row_groups > 1


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from glass_rt.results.output import open_output\n"
        "open_output(Path('r.parquet'), resume=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "pip install 'glass-rt[parquet]'" in done.stderr
