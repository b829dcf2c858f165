"""The programs of examples/ run as their docstrings say."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench_zoo import write_bundle, write_labelled_pictures
from tests.command_line import run_here
from tests.docs.blocks import ROOT
from tests.serving import serve_process

EXAMPLES = ROOT / "examples"
TIMEOUT_S = 120


def run(name: str, *arguments: object) -> str:
    """What an example prints; it must end with 0 and complain of nothing."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that calls red pictures fake, and labelled pictures."""
    folder = tmp_path_factory.mktemp("examples")
    write_bundle(folder / "tiny")
    write_labelled_pictures(folder / "labelled")
    return folder


def images(folder: Path) -> list[Path]:
    return sorted((folder / "labelled").rglob("*.png"))


def test_a_folder_is_judged_the_most_suspicious_first(folder: Path) -> None:
    lines = run("judge_folder.py", folder / "tiny", folder / "labelled").splitlines()
    assert len(lines) == len(images(folder)) == 12
    assert ["/fake/" in line for line in lines] == [True] * 6 + [False] * 6


def test_a_server_is_started_asked_and_stopped(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    lines = run("serve_and_ask.py", folder / "tiny", images(folder)[0], tmp_path / "text.jpg").splitlines()
    assert float(lines[0].split()[-1]) > 0.5
    assert "'kind': 'format'" in lines[1]


def test_tritonclient_gets_verdicts_of_several_images(folder: Path, tmp_path: Path) -> None:
    with serve_process(folder / "tiny", tmp_path) as server:
        lines = run("ask_with_tritonclient.py", server.http, "tiny", *images(folder)[:3]).splitlines()
    assert len(lines) == 3
    assert all("strongest crop at" in line for line in lines)


def test_images_in_parquet_become_rows(folder: Path, tmp_path: Path) -> None:
    paths = images(folder)[:4]
    table = pa.table({"path": [path.name for path in paths], "bytes": [path.read_bytes() for path in paths]})
    pq.write_table(table, tmp_path / "images.parquet")
    run("judge_parquet.py", folder / "tiny", tmp_path / "images.parquet", tmp_path / "verdicts.parquet")
    rows = pq.read_table(tmp_path / "verdicts.parquet").to_pylist()
    assert [row["path"] for row in rows] == [path.name for path in paths]
    assert {row["label"] for row in rows} == {"fake"}


def test_thresholds_are_swept_over_verdicts_that_exist(folder: Path, tmp_path: Path) -> None:
    done = run_here("infer", folder / "labelled", "--engine", folder / "tiny", "--output", tmp_path / "verdicts.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((path, path.parent.name) for path in images(folder))])
    lines = run("sweep_thresholds.py", tmp_path / "verdicts.csv", tmp_path / "labels.csv").splitlines()
    assert len(lines) == 20
    assert lines[10].split() == ["0.50", "100.0%", "0.0%"]


def test_every_example_is_tested_and_shown() -> None:
    shown = (ROOT / "docs" / "guides" / "examples.md").read_text()
    tested = Path(__file__).read_text() + (ROOT / "tests" / "glass_rt" / "bulk" / "test_spark.py").read_text()
    for example in EXAMPLES.iterdir():
        assert f'\n--8<-- "examples/{example.name}"\n' in shown
        assert f'"{example.name}"' in tested
