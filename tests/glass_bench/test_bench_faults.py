"""A slow, a wrong and a failing engine are each caught, by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from glass_bench.measure.record import read_record
from glass_bench.report.figures import cost_ratio

from tests.bench_zoo import write_picture
from tests.support import Cli

pytestmark = pytest.mark.slow

PARTS = ("--no-pytorch", "--no-tiles", "--scenarios", "single,offline", "--sweeps", "", "--budget", 4, "--repeats", 2)


@pytest.fixture(scope="module")
def planted(
    zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, str, str, Path]:
    """A run of all of them, over pictures of which one has the white pixels that the failing engine stumbles on."""
    images = tmp_path_factory.mktemp("images")
    for path in sorted(labelled.rglob("*.png"))[:4]:
        (images / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    write_picture(images / "white.png", (255, 255, 255))
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    output = tmp_path_factory.mktemp("bench")
    engines = [word for name in ("good", "slow", "wrong", "failing") for word in ("--engine", zoo[name])]
    done = cli("bench", *engines, "--baseline", zoo["good_resize"], "--images", images, "--output", output, *PARTS)
    return done.returncode, done.stdout, done.stderr, output


def contender(planted: tuple[int, str, str, Path], name: str) -> dict[str, Any]:
    entries = json.loads((planted[3] / "bench.json").read_text())["contenders"]
    return next(entry for entry in entries if entry["name"] == name)


def test_the_run_fails_and_the_good_engine_is_measured_all_the_same(planted: tuple[int, str, str, Path]) -> None:
    assert planted[0] == 1, planted[2]
    assert contender(planted, "good")["status"] == "measured"
    assert contender(planted, "good_resize")["status"] == "measured"


def test_the_wrong_engine_is_named_and_not_measured(planted: tuple[int, str, str, Path]) -> None:
    entry = contender(planted, "wrong")
    assert (entry["status"], entry["runs"]) == ("wrong", [])
    assert "WRONG: wrong: global engine" in planted[1]


def test_the_failing_engine_is_named_with_its_reason(planted: tuple[int, str, str, Path]) -> None:
    entry = contender(planted, "failing")
    assert entry["status"] == "failed"
    assert "FAILED: failing: " in planted[1]
    assert "white.png" in planted[1] or "queries" in planted[1]


def test_the_slow_engine_is_named_by_its_cost(planted: tuple[int, str, str, Path]) -> None:
    record = read_record(planted[3] / "bench.json")
    report = (planted[3] / "bench.md").read_text()
    assert "| slow |" in report
    slow, good = (next(entry for entry in record.contenders if entry.name == name) for name in ("slow", "good"))
    found = cost_ratio(slow, good)
    assert found is not None
    assert found.told_apart, "sixty products of 336 x 336 matrices are beyond any noise"
    assert found.value > 1
    assert "slow: " in planted[1]
    assert "times as slow as good, which runs the same model" in planted[1]


def test_an_unreadable_file_takes_no_part_and_is_named(planted: tuple[int, str, str, Path]) -> None:
    values = json.loads((planted[3] / "bench.json").read_text())
    assert values["refused"] == ["broken.jpg"]
    assert "broken.jpg" in planted[1]


def test_the_record_names_no_folder_of_the_machine(planted: tuple[int, str, str, Path]) -> None:
    text = (planted[3] / "bench.json").read_text() + (planted[3] / "bench.md").read_text()
    assert str(planted[3].parent) not in text
    assert "/tmp" not in text


def test_everything_is_written(planted: tuple[int, str, str, Path]) -> None:
    names = {path.name for path in planted[3].iterdir()}
    assert {"bench.json", "bench.md", "latency.png", "stages.png", "memory.png"} <= names


def test_every_table_says_that_it_is_about_cost(planted: tuple[int, str, str, Path]) -> None:
    report = (planted[3] / "bench.md").read_text()
    parts = report.split("\n## ")[1:]
    for part in parts:
        if "| :--" in part:
            assert "Cost only" in part, part[:80]
    assert "MLPerf results, and were not reviewed" in report


def test_stages_and_harness_are_accounted_for(planted: tuple[int, str, str, Path]) -> None:
    for run in contender(planted, "good")["runs"]:
        assert len(run["images"]) == len(run["inside_ms"])
        if run["scenario"] == "single_stream":
            assert {"decode", "views", "copy", "engine_global", "engine_local", "aggregate"} == set(run["stages_ms"][0])
            for stages, total in zip(run["stages_ms"], run["inside_ms"], strict=True):
                assert sum(stages.values()) <= total * 1.0001


def test_a_record_compares_with_itself_within_the_noise(planted: tuple[int, str, str, Path], cli: Cli) -> None:
    record = planted[3] / "bench.json"
    done = cli("bench", "compare", record, record, "--fail-if", "p50_ms>1.1")
    assert done.returncode == 0, done.stderr
    assert "within the noise" in done.stdout
    assert "slower" not in done.stdout


def test_a_limit_that_is_met_fails_the_run_by_name(
    zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path
) -> None:
    done = cli(
        "bench", "--engine", zoo["good"], "--images", labelled, "--output", tmp_path, "--quick", "--budget", 2,
        "--fail-if", "p50_ms>0", "--fail-if", "failures>0", "--fail-if", "cost_ratio>9",
    )  # fmt: skip
    assert done.returncode == 1
    assert "LIMIT: good: p50_ms is" in done.stderr
    assert "failures" not in done.stderr
    assert "LIMIT: good: cost_ratio was not measured" in done.stderr  # without a baseline a limit must not pass


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--fail-if", "speed>1"], "expected [CONTENDER:]FIGURE>NUMBER"),
        (["--sweeps", "colours"], "expected some of crops, size, batch, workers"),
        (["--percentile", "42"], "LoadGen reports 50, 90, 95, 97, 99 and 99.9"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_measured(
    words: list[str], expected: str, zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path
) -> None:
    done = cli("bench", "--engine", zoo["good"], "--images", labelled, "--output", tmp_path, *words)
    assert done.returncode == 2
    assert expected in done.stderr


def test_an_engine_that_cannot_be_opened_is_named(
    zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path
) -> None:
    done = cli("bench", "--engine", tmp_path / "nothing", "--images", labelled, "--output", tmp_path, *PARTS)
    assert done.returncode == 1
    assert "FAILED: nothing: no such folder" in done.stdout
    written = (tmp_path / "bench.json").read_text() + (tmp_path / "bench.md").read_text()
    assert str(tmp_path) not in done.stdout + written


def test_a_batch_that_the_bundle_does_not_take_is_not_measured(
    zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path
) -> None:
    done = cli("bench", "--engine", zoo["good"], "--images", labelled, "--output", tmp_path, *PARTS, "--batch", 65)
    assert done.returncode == 1
    assert "FAILED: good: batch: got 65; this bundle takes 1..64" in done.stdout
