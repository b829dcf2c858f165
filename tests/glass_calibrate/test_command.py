"""`glass-rt calibrate`, from labelled pictures to a decision in the bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt.bundle.bundle import Bundle
from glass_rt.machine.cache_files import BESIDE
from glass_rt.machine.one_writer import locked_file
from tests.bench_zoo import write_bundle
from tests.glass_calibrate.conftest import ASKED
from tests.glass_calibrate.scenes import write_scene, write_scenes
from tests.support import Cli

PLOTS = ("scores.png", "reliability.png", "det.png", "coverage.png")


def record(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "calibration.json").read_text())
    return values


def rescored(report: Path, folder: Path) -> Path:
    """A copy of a report's scores, so that nothing is judged again."""
    folder.mkdir()
    for name in ("scores.jsonl", "scores.json"):
        shutil.copy(report / name, folder)
    return folder


@pytest.fixture
def again(report: Path, tmp_path: Path) -> Path:
    return rescored(report, tmp_path / "again")


def test_a_bundle_gets_its_decision_and_a_report(scenes: Path, bundle: Path, cli: Cli, tmp_path: Path) -> None:
    before = Bundle.open(bundle)
    done = cli("calibrate", scenes, "--engine", bundle, *ASKED, "--report", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    after = Bundle.open(bundle)
    decision = after.manifest.decision
    assert decision is not None
    assert decision.id in done.stdout
    assert after.sha256 in done.stderr
    assert (after.content_sha256, after.sha256 != before.sha256) == (before.content_sha256, True)
    found = record(tmp_path / "out")
    assert found["installed"] is True
    assert found["calibration"]["id"] == decision.id
    assert found["counts"]["counted"] == 140
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "calibration.json", "calibration.md", "decision.json", "scores.json", "scores.jsonl", *PLOTS,
    }  # fmt: skip
    text = (tmp_path / "out" / "calibration.md").read_text()
    for words in ("at most 5 % of all real images", "## Tiers", "by source", "Cllr, bits", "(scores.png)"):
        assert words in text


def test_infer_says_what_the_report_says(scenes: Path, bundle: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("calibrate", scenes, "--engine", bundle, *ASKED, "--report", tmp_path / "out", "-q").returncode == 0
    done = cli("infer", scenes, "--engine", bundle, "--jsonl", "-q")
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(verdicts) == 140
    real = [one["label"] for one in verdicts if "/real/" in one["path"]]
    fake = [one["label"] for one in verdicts if "/fake/" in one["path"]]
    (thumbnail, *_) = record(tmp_path / "out")["tiers"]
    assert (real.count("fake"), fake.count("real")) == (
        thumbnail["answers"]["fpr"]["count"],
        thumbnail["answers"]["fnr"]["count"],
    )
    decided = len(verdicts) - real.count("unsure") - fake.count("unsure")
    assert decided == thumbnail["answers"]["decided"]["count"]
    assert {one["decision"]["id"] for one in verdicts} == {record(tmp_path / "out")["calibration"]["id"]}


def test_a_dry_run_leaves_the_bundle_as_it_is(
    scenes: Path, bundle: Path, again: Path, cli: Cli, tmp_path: Path
) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    done = cli("calibrate", scenes, "--engine", bundle, *ASKED, "--report", again, "--dry-run", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == record(again)
    assert record(again)["installed"] is False
    assert (bundle / "manifest.json").read_bytes() == manifest


def test_the_same_scores_give_the_same_decision(
    scenes: Path, engine: Path, report: Path, again: Path, cli: Cli
) -> None:
    assert cli("calibrate", scenes, "--engine", engine, *ASKED, "--report", again, "--dry-run", "-q").returncode == 0
    assert record(again) == record(report)
    assert (again / "decision.json").read_bytes() == (report / "decision.json").read_bytes()
    assert (again / "scores.jsonl").read_bytes() == (report / "scores.jsonl").read_bytes()


def test_a_decision_goes_out_of_one_bundle_into_another_of_the_same_content(
    report: Path, bundle: Path, engine: Path, cli: Cli, tmp_path: Path
) -> None:
    twin = Path(shutil.copytree(bundle, tmp_path / "twin"))
    done = cli("calibrate", "--import", report / "decision.json", "--engine", bundle)
    assert done.returncode == 0, done.stderr
    assert cli("calibrate", "--export", tmp_path / "out.json", "--engine", bundle).returncode == 0
    assert (tmp_path / "out.json").read_bytes() == (report / "decision.json").read_bytes()
    assert cli("calibrate", "--import", tmp_path / "out.json", "--engine", twin).returncode == 0
    assert (twin / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
    assert cli("calibrate", "--remove", "--engine", twin).returncode == 0
    assert (twin / "manifest.json").read_bytes() == (engine / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no decision that glass-rt calibrate --export wrote"),
        (b'{"schema": 1, "kind": "bundle"}', "is no decision"),
        (b"[" * 100_000, "is no decision"),
        (b'{"schema": 1, "kind": "decision", "decision": {"id": 3}}', "decision"),
    ],
)
def test_files_that_hold_no_decision(content: bytes, message: str, bundle: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    manifest = (bundle / "manifest.json").read_bytes()
    done = cli("calibrate", "--import", tmp_path / "x.json", "--engine", bundle)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert (bundle / "manifest.json").read_bytes() == manifest


def test_a_decision_for_other_content_is_refused(report: Path, cli: Cli, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", "resize", classes=("real", "fake"))
    done = cli("calibrate", "--import", report / "decision.json", "--engine", other)
    assert done.returncode == 1
    assert "does not belong to this bundle" in done.stderr


@pytest.mark.parametrize("name", ["manifest.json", "head.safetensors", "new.json", "cache/new.json"])
def test_nothing_is_exported_into_the_bundle(name: str, report: Path, bundle: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("calibrate", "--import", report / "decision.json", "--engine", bundle).returncode == 0
    (tmp_path / "link").symlink_to(bundle)
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    done = cli("calibrate", "--export", tmp_path / "link" / name, "--engine", bundle)
    assert done.returncode == 2
    assert "lies in the bundle" in done.stderr
    assert {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()} == before


def test_no_report_lies_in_the_bundle(scenes: Path, bundle: Path, cli: Cli) -> None:
    done = cli("calibrate", scenes, "--engine", bundle, *ASKED, "--report", bundle, "-q")
    assert done.returncode == 2
    assert "--report: " in done.stderr
    assert Bundle.open(bundle).manifest.decision is None


def test_an_export_replaces_decisions_alone(report: Path, bundle: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("calibrate", "--import", report / "decision.json", "--engine", bundle).returncode == 0
    (tmp_path / "labels.csv").write_text("path,label\n")
    done = cli("calibrate", "--export", tmp_path / "labels.csv", "--engine", bundle)
    assert done.returncode == 2
    assert "holds no decision" in done.stderr
    assert (tmp_path / "labels.csv").read_text() == "path,label\n"
    for _ in range(2):
        assert cli("calibrate", "--export", tmp_path / "out.json", "--engine", bundle).returncode == 0


def test_a_report_says_that_the_bundle_has_its_decision_only_where_it_has(
    scenes: Path, bundle: Path, again: Path, cli: Cli
) -> None:
    (bundle / BESIDE).mkdir(exist_ok=True)
    with locked_file(bundle / BESIDE / "manifest.json-lock"):
        done = cli("calibrate", scenes, "--engine", bundle, *ASKED, "--report", again, "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is being calibrated by" in done.stderr
    assert record(again)["installed"] is False
    assert ", not in the bundle." in (again / "calibration.md").read_text()
    assert cli("calibrate", scenes, "--engine", bundle, *ASKED, "--report", again, "-q").returncode == 0
    assert record(again)["installed"] is True
    assert ", in the bundle." in (again / "calibration.md").read_text()


def test_a_report_that_cannot_be_written_is_named(scenes: Path, bundle: Path, again: Path, cli: Cli) -> None:
    (again / "calibration.md").mkdir()  # what no file can replace
    done = cli("calibrate", scenes, "--engine", bundle, *ASKED, "--report", again, "-q")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{again} cannot be written" in done.stderr
    assert "--report" in done.stderr
    assert Bundle.open(bundle).manifest.decision is None


def test_nothing_to_export_and_nothing_to_remove(bundle: Path, cli: Cli, tmp_path: Path) -> None:
    for arguments in (("--export", tmp_path / "x.json"), ("--remove",)):
        done = cli("calibrate", *arguments, "--engine", bundle)
        assert done.returncode == 1
        assert "has no decision" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--remove", "--export", "x.json"), (".", "--remove")])
def test_one_thing_at_a_time(arguments: tuple[str, ...], bundle: Path, cli: Cli) -> None:
    done = cli("calibrate", *arguments, "--engine", bundle)
    assert done.returncode == 2
    assert "give one of LABELLED, --remove, --export and --import" in done.stderr


def test_a_dry_run_of_what_judges_nothing_is_refused(bundle: Path, cli: Cli) -> None:
    done = cli("calibrate", "--remove", "--dry-run", "--engine", bundle)
    assert done.returncode == 2
    assert "--dry-run is for LABELLED" in done.stderr


@pytest.mark.parametrize("package", ["scipy", "matplotlib"])
def test_without_its_extra_the_command_says_what_to_install(
    package: str, scenes: Path, engine: Path, again: Path, tmp_path: Path
) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from glass_rt.cli import main; main()"
    arguments = ["calibrate", scenes, "--engine", engine, *ASKED, "--report", again, "--dry-run", "-q"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "is not installed: pip install 'glass-rt[calibrate]'" in done.stderr
    assert "Traceback" not in done.stderr


# What a run on other images, or with other wishes, is told.


def _no_reals(folder: Path) -> None:
    shutil.rmtree(folder / "real")


def _ten_images(folder: Path) -> None:
    shutil.rmtree(folder)
    write_scenes(folder, 5)


def _other_names(folder: Path) -> None:
    (folder / "real").rename(folder / "photographs")
    (folder / "fake").rename(folder / "generated")


def _unknown_label(folder: Path) -> None:
    (folder / "labels.csv").write_text("path;label\nreal/phone/000.png;human\n")


def _both_ways(folder: Path) -> None:
    shutil.copy(folder / "real" / "phone" / "000.png", folder / "fake" / "copy.png")


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (_no_reals, (), "none of them is real: both classes are needed"),
        (_ten_images, (), "there are 5; 5 allow --fpr 0.4508 at the lowest"),
        (_other_names, (), "holds no labelled images; expected sub-folders `fake` and `real`"),
        (_unknown_label, ("--labels", "labels.csv"), "line 2: expected the columns path and label"),
        (_both_ways, (), "labelled both ways: fake/copy.png and real/phone/000.png"),
        (None, ("--group", "camera"), "no image has a 'camera'"),
        (None, ("--by", "camera"), "no image has a 'camera'"),
        (None, ("--group", "folder"), "needs 59 real images in a tier; there are 2"),
        (
            None,
            ("--fpr", "0.01"),
            "--fpr 0.01 at 95 % confidence needs 299 real images in a tier; there are 70; ",
        ),
        (None, ("--fpr", "1e-320"), "fpr: got 1e-320; expected a share between 0 and 1"),
        (None, ("--confidence", "0.99999999"), "--fpr 0.05 at 99.9999 % confidence needs 360 real images"),
        (None, ("--fnr", "0.01"), "--fnr 0.01 at 95 % confidence needs 299 fake images in a tier; there are 70"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_in_one_line(
    change: Any,
    arguments: tuple[str, ...],
    message: str,
    scenes: Path,
    bundle: Path,
    report: Path,
    cli: Cli,
    tmp_path: Path,
) -> None:
    folder, out = scenes, rescored(report, tmp_path / "again")
    if change is not None:
        folder = Path(shutil.copytree(scenes, tmp_path / "set"))
        change(folder)
    manifest = (bundle / "manifest.json").read_bytes()
    done = cli("calibrate", folder, "--engine", bundle, *ASKED, *arguments, "--report", out, "-q", cwd=folder)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert (bundle / "manifest.json").read_bytes() == manifest


def test_untrained_weights_are_refused(bundle: Path, scenes: Path, cli: Cli, tmp_path: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["model"]["weights"]["trained"] = False
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = cli("calibrate", scenes, "--engine", bundle, "--report", tmp_path / "out")
    assert done.returncode == 1
    assert "untrained weights" in done.stderr
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_judged_are_counted_and_named(
    scenes: Path, bundle: Path, again: Path, cli: Cli, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(scenes, tmp_path / "set"))
    (folder / "real" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    write_scene(folder / "elsewhere" / "x.png", 0, np.random.Generator(np.random.PCG64(1)))
    for _ in range(2):  # the second time from the file of scores
        done = cli("calibrate", folder, "--engine", bundle, *ASKED, "--report", again, "-q")
        assert done.returncode == 1
        assert "1 of 141 images could not be judged" in done.stdout
        assert "real/broken.jpg" in done.stdout
        assert "1 images have no label and are left out" in done.stdout
        counts = record(again)["counts"]
        assert (counts["labelled"], counts["counted"], list(counts["unjudged"])) == (141, 140, ["real/broken.jpg"])
    assert Bundle.open(bundle).manifest.decision is not None


def test_a_label_that_hides_in_the_format_is_warned_of(bundle: Path, cli: Cli, tmp_path: Path) -> None:
    write_scenes(tmp_path / "png", 60)
    write_scenes(tmp_path / "jpg", 60, suffix=".jpg")
    for kind, suffix in (("fake", "png"), ("real", "jpg")):
        shutil.move(tmp_path / suffix / kind, tmp_path / "set" / kind)
    done = cli("calibrate", tmp_path / "set", "--engine", bundle, *ASKED, "--report", tmp_path / "out", "-q")
    assert done.returncode == 0, done.stderr
    assert "the label hides in the file format: guessing by it alone is right for 100%" in done.stdout
    assert "hides in the image size" not in done.stdout


def test_one_image_of_a_source_counts(scenes: Path, engine: Path, again: Path, cli: Cli, tmp_path: Path) -> None:
    names = sorted(path.relative_to(scenes).as_posix() for path in scenes.rglob("*.png"))
    rows = [f"{name};{name.split('/')[0]};{int(name[-7:-4]) // 2};lab" for name in names]
    rows.append(rows[0])  # twice the same is once
    table = tmp_path / "labels.csv"
    table.write_text("\ufeffpath;label;Photograph;place\n" + "\n".join(rows) + "\n", encoding="utf-8")
    asked = ("--fpr", 0.1, "--fnr", 0.2, "--group", "photograph", "--labels", table, "--by", "place", "--by", "folder")
    done = cli("calibrate", scenes, "--engine", engine, *asked, "--report", again, "--dry-run", "-q")
    assert done.returncode == 0, done.stderr
    found = record(again)
    assert (found["counts"]["counted"], found["counts"]["same_source"]) == (70, 70)
    assert "70 images share their source with one that counts" in done.stdout
    assert {table["by"] for table in found["groups"]} == {"folder"}  # there is one place alone
    assert [row["rate"]["images"] for table in found["groups"] for row in table["rows"]] == [35] * 4


@pytest.mark.parametrize("changed", [("--sampling", "tiles"), ("--draws", 2), ("--crops", 1)])
def test_scores_of_other_conditions_are_not_mixed(
    changed: tuple[object, ...], scenes: Path, cli: Cli, tmp_path: Path
) -> None:
    glass = write_bundle(tmp_path / "glass")
    out = tmp_path / "out"
    first = cli("calibrate", scenes, "--engine", glass, "--report", out, "--dry-run", "-q")  # refused, scores kept
    assert "needs 299 real" in first.stderr
    done = cli("calibrate", scenes, "--engine", glass, *changed, "--report", out, "--dry-run", "-q")
    assert done.returncode == 2
    assert "holds scores of another engine or of other options" in done.stderr


def test_images_without_a_source_and_images_that_the_model_knows_are_told(
    scenes: Path, engine: Path, again: Path, cli: Cli, tmp_path: Path
) -> None:
    """A source that is called as an image is another source than that image."""
    names = sorted(path.relative_to(scenes).as_posix() for path in scenes.rglob("*.png"))
    splits = ["train", "val", "calibration", "test", ""]
    rows = [f"{name},{name.split('/')[0]},{splits[number % 5]}," for number, name in enumerate(names)]
    rows[-1] += names[0].replace("fake", "real")
    table = tmp_path / "labels.csv"
    table.write_text("path,label,split,camera\n" + "\n".join(rows) + "\n")
    asked = (*ASKED, "--group", "camera", "--labels", table)
    done = cli("calibrate", scenes, "--engine", engine, *asked, "--report", again, "--dry-run", "-q")
    assert done.returncode == 0, done.stderr
    counts = record(again)["counts"]
    assert {name: counts[name] for name in ("counted", "same_source", "sourceless", "learnt")} == {
        "counted": 140, "same_source": 0, "sourceless": 139, "learnt": 56,
    }  # fmt: skip
    assert "139 images have no camera: each of them counts as independent" in done.stdout
    assert "28 in `train` and 28 in `val`" in done.stdout


def test_tiers_off_is_one_tier(scenes: Path, engine: Path, again: Path, cli: Cli) -> None:
    done = cli("calibrate", scenes, "--engine", engine, *ASKED, "--tiers", "off", "--report", again, "--dry-run", "-q")
    assert done.returncode == 0, done.stderr
    assert [tier["tier"] for tier in record(again)["tiers"]] == ["every image"]
    assert "always `unsure`" not in done.stdout


def test_one_part_calibrates_alone(scenes: Path, bundle: Path, report: Path, cli: Cli, tmp_path: Path) -> None:
    table, names = tmp_path / "labels.csv", sorted(path.relative_to(scenes) for path in scenes.rglob("*.png"))
    rows = [f"{name},{'fake' if 'fake' in name.parts else 'real'},{'test' if n % 7 == 0 else 'calibration'}"
            for n, name in enumerate(names)]  # fmt: skip
    table.write_text("\n".join(["path,label,split", *rows]))
    asked = ("calibrate", scenes, "--labels", table, "--engine", bundle, "--fpr", "0.2", "--fnr", "0.2", "--dry-run")
    folder = rescored(report, tmp_path / "part")
    done = cli(*asked, "--report", folder, "--split", "calibration", "-q")
    assert done.returncode == 0, done.stderr
    found = record(folder)
    assert found["settings"]["split"] == "calibration"
    assert found["counts"]["labelled"] == len(rows) - len([row for row in rows if row.endswith(",test")])
    assert "labelled images of the split `calibration`" in (folder / "calibration.md").read_text()
    done = cli(*asked, "--report", folder, "--split", "train", "-q")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --split train: no image lies in it; there are calibration (")
    assert done.stderr.count("\n") == 1
