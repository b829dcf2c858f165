"""`glass-rt infer` as people use it: by its output and its exit code."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from glass_rt import DetectOptions, Detector
from glass_rt.bundle.bundle import Bundle
from glass_rt.cli.infer import infer
from glass_rt.cli.progress_line import ProgressLine
from glass_rt.errors import GlassError
from glass_rt.results.verdict import Verdict
from tests.support import Bundles, Cli


@pytest.fixture(scope="module")
def bundle(bundles: Bundles) -> Bundle:
    return bundles("mobilenet_v3_small")


def test_one_image_gives_one_object(process_cli: Cli, bundle: Bundle, pictures: tuple[Path, ...]) -> None:
    done = process_cli("infer", pictures[0], "--engine", bundle.folder, "--seed", 7, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    with Detector.open(bundle.folder) as detector:
        expected = detector.detect(pictures[0], DetectOptions(seed=7)).to_json()
    for values in (result, expected):
        values.pop("timings_ms")
    assert result == json.loads(json.dumps(expected))
    assert list(result)[:4] == ["schema", "path", "sha256", "width"]
    assert result["engine"]["bundle_sha256"] == bundle.sha256
    assert result["trained"] is False


def test_several_files_folders_and_patterns_give_an_array_in_order(
    cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "album" / "deep"
    folder.mkdir(parents=True)
    shutil.copy(pictures[1], folder / "b.png")
    shutil.copy(pictures[1], folder / "a")  # no suffix: told by content
    (folder / "notes.txt").write_text("not an image, and not named like one")
    (folder / ".hidden.png").write_text("hidden")
    shutil.copy(pictures[2], tmp_path / "x1.jpg")
    shutil.copy(pictures[2], tmp_path / "x2.jpg")
    done = cli("infer", pictures[0], tmp_path / "album", tmp_path / "x*.jpg", "--engine", bundle.folder, "--json")
    results = json.loads(done.stdout)
    names = [Path(result["path"]).name for result in results]
    assert names == ["1600x1200.jpg", "a", "b.png", "x1.jpg", "x2.jpg"]
    assert results[1]["probability_fake"] == results[2]["probability_fake"]
    assert done.returncode == 0


def test_bad_files_are_named_and_the_others_judged(
    cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.jpg").write_bytes(pictures[0].read_bytes()[:5000])
    (tmp_path / "nothing").mkdir()
    arguments = ["absent.jpg", tmp_path / "text.jpg", pictures[0], tmp_path / "empty.png", tmp_path / "cut.jpg"]
    done = cli(
        "infer",
        *arguments,
        tmp_path / "nothing",
        tmp_path / "*.heic",
        pictures[1],
        "--engine",
        bundle.folder,
        "--jsonl",
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [result["error"]["kind"] if "error" in result else result["label"] for result in results]
    assert done.returncode == 1
    assert [kind if kind != "none" else "judged" for kind in kinds] == [
        "not_readable", "format", "judged", "format", "corrupt", "not_readable", "not_readable", "judged",
    ]  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "2 of 8 judged" in done.stderr


def test_the_table_is_for_people(cli: Cli, bundle: Bundle, pictures: tuple[Path, ...]) -> None:
    single = cli("infer", pictures[0], "--engine", bundle.folder)
    assert "untrained" in single.stdout.splitlines()[0]
    assert "UNTRAINED WEIGHTS: this verdict says nothing about the image" in single.stdout
    several = cli("infer", *pictures[:3], "absent.png", "--engine", bundle.folder)
    lines = several.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["NONE"] * 3
    assert lines[3].split() == ["ERROR", "absent.png:", "no", "such", "file"]
    assert several.returncode == 1
    quiet = cli("infer", *pictures[:3], "--engine", bundle.folder, "--quiet")
    assert quiet.stderr == ""


def test_csv_has_a_row_per_image(cli: Cli, bundle: Bundle, pictures: tuple[Path, ...]) -> None:
    done = cli("infer", pictures[0], "absent.png", "--engine", bundle.folder, "--csv")
    first, second = csv.DictReader(io.StringIO(done.stdout))
    assert (first["label"], first["basis"]) == ("none", "untrained")
    assert 0 <= float(first["probability_fake"]) <= 1
    assert (second["error_kind"], second["error"], second["label"]) == ("not_readable", "no such file", "")


@pytest.mark.parametrize("form", ["--json", "--jsonl", "--csv", "--device=cpu"])  # the last: a table
def test_a_name_that_is_no_utf8_is_printed_with_escapes(
    form: str, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(pictures[0], image)
    done = subprocess.run(
        [sys.executable, "-m", "glass_rt", "infer", str(image), "--engine", str(bundle.folder), form],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},  # as in most locales, other than C.UTF-8
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    text = done.stdout.decode()
    path = json.loads(text)["path"] if form.startswith("--json") else text
    assert str(tmp_path / r"caf\udce9.jpg") in path


def test_a_locale_that_lacks_the_name_s_letters_escapes_them(
    bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    image = shutil.copy(pictures[0], tmp_path / "日本.jpg")
    done = subprocess.run(
        [sys.executable, "-m", "glass_rt", "infer", str(image), "--engine", str(bundle.folder)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u65e5\u672c.jpg" in done.stdout


def test_a_name_cannot_command_the_terminal(
    cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    name = "esc\x1b[2K\nREAL 0.0001.jpg"
    shutil.copy(pictures[0], tmp_path / name)
    other = shutil.copy(pictures[0], tmp_path / f"other {name}")
    judged = cli("infer", tmp_path / name, other, tmp_path / f"no {name}", "--engine", bundle.folder)
    refused = cli("infer", tmp_path, "--engine", tmp_path / name)
    drawn = cli(
        "infer", tmp_path / name, "--engine", bundle.folder, "--overlay", tmp_path.parent / f"ev{tmp_path.name}"
    )
    misused = cli("infer", tmp_path, "--overlay", tmp_path / "no" / name)
    for said in (judged.stdout, refused.stderr, drawn.stderr, misused.stderr):
        assert r"esc\u001b[2K" in said
        assert "\x1b" not in said
    assert len(judged.stdout.splitlines()) == 3


def test_a_file_named_like_a_pattern_is_a_single_file(
    cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    image = shutil.copy(pictures[0], tmp_path / "photo[1].jpg")
    assert json.loads(cli("infer", image, "--engine", bundle.folder, "--json").stdout)["path"] == str(image)


def test_a_name_that_the_system_refuses_costs_its_own_row(cli: Cli, bundle: Bundle, pictures: tuple[Path, ...]) -> None:
    alone = cli("infer", 300 * "x", "--engine", bundle.folder)
    assert (alone.returncode, "File name too long" in alone.stdout) == (1, True)
    done = cli("infer", 300 * "x", pictures[0], "--engine", bundle.folder, "--jsonl")
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True, False]


def test_standard_input_is_an_image(process_cli: Cli, bundle: Bundle, pictures: tuple[Path, ...]) -> None:
    done = process_cli("infer", "-", "--engine", bundle.folder, "--json", stdin=pictures[0].read_bytes())
    named = process_cli("infer", pictures[0], "--engine", bundle.folder, "--json")
    piped, by_path = json.loads(done.stdout), json.loads(named.stdout)
    assert piped["path"] is None
    assert piped["crops"] == by_path["crops"]


def test_options_reach_the_detector(cli: Cli, bundle: Bundle, pictures: tuple[Path, ...]) -> None:
    result = json.loads(
        cli(
            "infer", pictures[0], "--engine", bundle.folder, "--json", "--crops", 3, "--threshold", 0, "--seed", 1
        ).stdout
    )
    assert (len(result["crops"]), result["label"], result["seed"]) == (3, "none", 1)  # untrained at any threshold
    tiles = json.loads(cli("infer", pictures[1], "--engine", bundle.folder, "--json", "--sampling", "tiles").stdout)
    assert len(tiles["crops"]) == 5 * 4
    limited = cli("infer", pictures[0], "--engine", bundle.folder, "--json", "--max-pixels", 1000)
    assert json.loads(limited.stdout)["error"]["kind"] == "too_large"
    assert limited.returncode == 1


def test_a_run_that_ends_badly_leaves_no_progress_line(
    bundle: Bundle, pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[Verdict]:
        raise GlassError("the machine is out of order")

    cleared: list[ProgressLine] = []
    monkeypatch.setattr(Detector, "detect_many", fail)
    monkeypatch.setattr(ProgressLine, "clear", lambda line: cleared.append(line))
    done = CliRunner().invoke(infer, [str(pictures[0]), "--engine", str(bundle.folder), "--json"])
    assert str(done.exception) == "the machine is out of order"
    assert len(cleared) == 1


def test_evidence_pictures_are_written(cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path) -> None:
    done = cli("infer", *pictures, "--engine", bundle.folder, "--overlay", tmp_path / "evidence")
    assert done.returncode == 0
    drawn = sorted((tmp_path / "evidence").iterdir())
    assert len(drawn) == len(pictures)
    for path in drawn:
        picture = cv2.imread(str(path))
        assert picture is not None
        height, width = picture.shape[:2]
        assert 900 <= width <= 1600
        assert height > 132


def test_an_evidence_folder_that_cannot_be_written_fails_plainly(
    cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = cli("infer", pictures[0], "--engine", bundle.folder, "--overlay", tmp_path / "file" / "evidence")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "P(AI-generated)" in done.stdout
    several = cli("infer", *pictures[:2], "--engine", bundle.folder, "--overlay", tmp_path / "file" / "evidence")
    assert several.returncode == 1
    assert "2 of 2 judged" in several.stderr


@pytest.mark.parametrize("inside", [".", "evidence"])
def test_an_evidence_folder_among_the_images_is_refused(
    inside: str, cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    shutil.copy(pictures[0], tmp_path)
    done = cli("infer", tmp_path, "--engine", bundle.folder, "--overlay", tmp_path / inside)
    assert (done.returncode, "choose one outside" in done.stderr) == (2, True)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer"],
        ["infer", "x.png", "--json", "--csv"],
        ["infer", "x.png", "--crops", "0"],
        ["infer", "x.png", "--crops", "²"],
        ["infer", "x.png", "--seed", "-1"],
        ["infer", "x.png", "--threshold", "2"],
        ["infer", "x.png", "--crops", "3", "--sampling", "tiles"],
        ["infer", "x.png", "--nonsense"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2(cli: Cli, bundle: Bundle, arguments: list[str]) -> None:
    done = cli(*arguments, *(["--engine", bundle.folder] if arguments[0] == "infer" else []))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_no_engine_says_how_to_get_one(process_cli: Cli, pictures: tuple[Path, ...], tmp_path: Path) -> None:
    done = process_cli("infer", pictures[0], cwd=tmp_path)
    assert done.returncode == 1
    assert "glass-rt build --backbone vit_b16" in done.stderr


def test_a_damaged_bundle_is_refused(cli: Cli, bundle: Bundle, pictures: tuple[Path, ...], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    (copy / "local.onnx").write_bytes(b"other")
    done = cli("infer", pictures[0], "--engine", copy)
    assert done.returncode == 1
    assert "rebuild the bundle" in done.stderr
    pinned = cli("infer", pictures[0], "--engine", bundle.folder, "--expect-bundle", "0" * 64)
    assert pinned.returncode == 1
    assert "is another bundle" in pinned.stderr
