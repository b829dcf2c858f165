"""`glass-rt infer` of sources that can be read only once, through links, and beside files that are not read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import pytest

from glass_rt.bundle.bundle import Bundle
from tests.support import Bundles, Cli


@pytest.fixture(scope="module")
def bundle(bundles: Bundles) -> Bundle:
    return bundles("mobilenet_v3_small")


@pytest.mark.parametrize("source", ["pipe", "process substitution", "/dev/stdin", "-"])
def test_what_can_be_read_only_once_gets_its_evidence_picture(
    source: str, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    engine = f"--engine {bundle.folder} --overlay {tmp_path}/pictures --jsonl"
    command, picture = f"{sys.executable} -m glass_rt infer", pictures[5]
    line = {
        "pipe": f"mkfifo {tmp_path}/pipe; cat {picture} > {tmp_path}/pipe & {command} {tmp_path}/pipe {engine}",
        "process substitution": f"{command} <(cat {picture}) {engine}",
        "/dev/stdin": f"cat {picture} | {command} /dev/stdin {engine}",
        "-": f"cat {picture} | {command} - {engine}",
    }[source]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["path"] == {"pipe": f"{tmp_path}/pipe", "/dev/stdin": source, "-": None}.get(source, result["path"])
    (drawn,) = (tmp_path / "pictures").iterdir()
    assert cv2.imread(str(drawn)) is not None
    assert drawn.name.endswith(f".{result['sha256'][:8]}.jpg")


@pytest.mark.parametrize("stem", [251 * "x", 125 * "é", "x" + 125 * "é", 83 * "日" + "x"])
def test_a_long_name_keeps_its_picture(
    stem: str, cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    image = Path(shutil.copy(pictures[5], tmp_path / f"{stem}.jpg"))
    done = cli("infer", image, "--engine", bundle.folder, "--overlay", tmp_path / "pictures")
    assert (done.returncode, "no evidence picture" in done.stderr) == (0, False)
    (drawn,) = (tmp_path / "pictures").iterdir()
    begin, _sha256, _suffix = drawn.name.rsplit(".", 2)
    assert stem.startswith(begin)
    assert 238 <= len(os.fsencode(begin)) <= 242


def test_a_file_that_changes_before_its_picture_is_drawn_gets_none(
    bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    code = (
        "import shutil, sys\n"
        "from glass_rt.cli import infer, main\n"
        "read = infer.read_image\n"
        f"infer.read_image = lambda path, most: (shutil.copy({str(pictures[3])!r}, path), read(path, most))[1]\n"
        "main()\n"
    )
    image = shutil.copy(pictures[5], tmp_path / "x.png")
    words = ["infer", image, "--engine", bundle.folder, "--overlay", tmp_path / "pictures"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"no evidence picture: {image}: the file has changed since it was judged" in done.stderr


def test_folders_behind_links_are_judged_and_what_is_not_read_is_named_once(
    cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    album, elsewhere = tmp_path / "album", tmp_path / "elsewhere"
    for folder in (album, elsewhere):
        folder.mkdir()
        shutil.copy(pictures[5], folder)
        (folder / "x.jxl").touch()
    (album / "link").symlink_to(elsewhere)
    (album / "round").symlink_to(album)
    done = cli("infer", album, "--engine", bundle.folder, "--jsonl")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.count("2 files were passed over, images of kinds that are not read: 2 .jxl") == 1
    assert "passed over" not in cli("infer", album, "--engine", bundle.folder, "--jsonl", "--quiet").stderr


def test_pipes_among_many_images_keep_their_places(
    cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(pictures[5].read_bytes()))
    writer.start()
    names = [str(pictures[5]), str(pipe), "/absent.png", str(pictures[4])]
    done = cli("infer", *names, "--engine", bundle.folder, "--jsonl", "--overlay", tmp_path / "pictures")
    writer.join()
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in rows] == names
    assert ["error" in row for row in rows] == [False, False, True, False]
    assert rows[0]["sha256"] == rows[1]["sha256"]
