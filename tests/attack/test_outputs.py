"""`infer --output` killed, doubled, robbed of its file, and on full disks: every image once, or a clear error."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.attack

TRIALS = min(100, int(os.environ.get("GLASS_RT_ATTACK_TRIALS", "3")))  # of each theme; one takes about two seconds
IMAGES = [f"/nowhere/{number:03}.png" for number in range(200)]
SCRIPT = Path(__file__).with_name("infer_without_engine.py")
SUFFIXES = (".jsonl", ".csv", ".parquet")


def start(output: Path, *options: str, most_bytes: int | None = None) -> subprocess.Popen[str]:
    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    command = [sys.executable, str(SCRIPT), "infer", *IMAGES, "--output", str(output), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output.parent, preexec_fn=limit
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr, which must be short and in plain words."""
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return process.returncode, err


def journal(output: Path) -> Path:
    return output.with_name(output.name + ".jsonl") if output.suffix == ".parquet" else output


def wait_for_rows(output: Path, process: subprocess.Popen[str], rows: int) -> None:
    where, deadline = journal(output), time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if where.read_bytes().count(b"\n") >= rows:
                return
        except OSError:
            pass
        time.sleep(0.002)


def paths_in(output: Path) -> list[str]:
    if output.suffix == ".parquet":
        return [row["path"] for row in pq.read_table(output).to_pylist()]
    if output.suffix == ".jsonl":
        return [json.loads(line)["path"] for line in output.read_text().splitlines()]
    with output.open(newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def finish(output: Path) -> None:
    """Goes on until all are there, and checks that each is there once and that nothing else is left."""
    assert ended(start(output, "--resume"))[0] == 0
    assert sorted(paths_in(output)) == IMAGES
    beside = [each.name for each in output.parent.iterdir() if each.name.startswith(output.name + ".")]
    assert beside == []


@pytest.fixture(params=range(TRIALS))
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[random.Random, Path]:
    """The trial's own chance, and where its output goes."""
    chance = random.Random(f"{request.node.originalname} {request.param}")
    (tmp_path / "out").mkdir()
    return chance, tmp_path / "out" / f"r{chance.choice(SUFFIXES)}"


def test_killed_at_any_moment(trial: tuple[random.Random, Path]) -> None:
    chance, output = trial
    for attempt in range(chance.randint(1, 3)):
        process = start(output, *(["--resume"] if attempt else []))
        wait_for_rows(output, process, chance.randrange(len(IMAGES) + 1))
        time.sleep(chance.choice([0, 0, 0.001, 0.01, 0.05]))
        process.kill()
        process.communicate()
    finish(output)


def test_two_writers_at_the_same_time(trial: tuple[random.Random, Path]) -> None:
    chance, output = trial
    resumed = [chance.random() < 0.5 for _ in range(2)]
    processes = []
    for resume in resumed:
        processes.append(start(output, *(["--resume"] if resume else [])))
        time.sleep(chance.choice([0, 0, 0, 0.02, 0.2, 0.5]))
    results = [ended(process) for process in processes]
    assert 0 in [code for code, _ in results]
    for number, (code, said) in enumerate(results):
        if code == 0:
            continue
        assert code == 2
        assert len(said.splitlines()) == 1
        named = re.search(r"is being written by process (\d+); wait until it has ended", said)
        if named:
            assert int(named[1]) == processes[1 - number].pid
        else:
            assert not resumed[number]  # the other had ended
            assert "exists already" in said
    assert sorted(paths_in(output)) == IMAGES
    finish(output)


def delete(file: Path) -> None:
    file.unlink()


def delete_folder(file: Path) -> None:
    file.unlink()
    with contextlib.suppress(OSError):  # the rescued rows may lie there already
        file.parent.rmdir()


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("mine\n")
    other.replace(file)


def move(file: Path) -> None:
    file.rename(file.with_name("moved" + file.suffix))


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 3)


def cut_all(file: Path) -> None:
    os.truncate(file, 0)


ROBBERIES: tuple[Callable[[Path], None], ...] = (delete, delete_folder, replace, move, cut, cut_all)


def test_the_file_is_taken_away(trial: tuple[random.Random, Path]) -> None:
    chance, output = trial
    rob, file = chance.choice(ROBBERIES), journal(output)
    process = start(output)
    wait_for_rows(output, process, chance.randrange(1, len(IMAGES)))
    try:
        rob(file)
    except FileNotFoundError:  # the run has ended, and its Parquet file is written
        assert file != output
    code, said = ended(process)
    if code == 0:  # it had ended before
        return
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"output: {file} was " in line
    if rob is replace:
        assert file.read_text() == "mine\n"
    found = re.search(r"rows are in (\S+), and|was moved to (\S+) while", line)
    if rob in (cut, cut_all):
        assert "--resume judges" in line
        finish(output)
    else:
        assert found is not None, line
        rescued = Path(found[1] or found[2])
        assert 1 <= len(paths_in(rescued)) <= len(IMAGES)
        output.parent.mkdir(exist_ok=True)
        finish(rescued)
        shutil.rmtree(rescued) if rescued.is_dir() else rescued.unlink()


def test_the_disk_is_full(trial: tuple[random.Random, Path]) -> None:
    chance, output = trial
    for attempt in range(chance.randint(1, 3)):
        process = start(output, *(["--resume"] if attempt else []), most_bytes=chance.randrange(200, 200_000))
        code, said = ended(process)
        if code:
            assert code == 1
            (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
            assert "cannot be written: " in line
            assert "--resume" in line
    finish(output)
