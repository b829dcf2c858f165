"""Records survive the way to disk and back, and what is wrong with one is said by its field."""

import json
from pathlib import Path
from typing import Any

import pytest
from glass_bench.errors import BenchError
from glass_bench.measure.record import SweepPoint, read_record

from glass_rt.machine.command_line import shown_command
from tests.glass_bench.records import FAST, SLOW, entry, record

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def test_a_record_survives_the_way_to_disk(tmp_path: Path) -> None:
    sweep = (SweepPoint(1, (5.0, 6.0), 90.0), SweepPoint(2, (7.0,)))
    written = record(entry("glass", FAST, crop_sweep=sweep), entry("resize", SLOW, "baseline"))
    written.write(tmp_path / "a.json")
    read = read_record(tmp_path / "a.json")
    read.write(tmp_path / "b.json")  # six digits were kept: from here on nothing is lost
    assert read_record(tmp_path / "b.json") == read
    assert read.contenders[0].crop_sweep == sweep
    assert read.machine == written.machine


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema": 99}, "schema 99; this version reads schema 1"),
        ({"kind": "eval"}, "not a record of"),
        ({"folder": 5}, "folder is 5; expected a string"),
        ({"machine": []}, r"machine is \[\]; expected an object"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"images": [{"name": "x"}]}, r"images\[0\].width is missing"),
        ({"duration_s": "long"}, "duration_s is 'long'"),
    ],
)
def test_a_damaged_record_is_refused_by_its_field(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    record(entry("glass", FAST)).write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError, match=expected):
        read_record(path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("no")
    with pytest.raises(BenchError, match="cannot be read as a record"):
        read_record(tmp_path / "a.json")


def test_a_recorded_command_names_no_folder_of_the_machine() -> None:
    words = [
        "/usr/bin/glass-rt",
        "bench",
        "--engine",
        "/home/me/engines/vit",
        "--images=/data/photos",
        "--fail-if",
        "p99_ms>5",
    ]
    assert shown_command(words) == "glass-rt bench --engine vit --images=photos --fail-if p99_ms>5"


@pytest.mark.parametrize("name", ["cost_artefact", "cost_vit_b16"])
def test_records_of_earlier_versions_are_read(name: str) -> None:
    found = read_record(RESULTS / name / "bench.json")
    assert all(entry.status == "measured" and entry.runs for entry in found.contenders if entry.role == "engine")
