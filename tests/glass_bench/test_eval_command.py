"""`glass-rt eval` on pictures whose labels and scores are known."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from glass_rt.decision.tiers import TierRule
from tests.bench_zoo import write_bundle, write_labelled_pictures, write_picture
from tests.calibrations import calibrate, tier
from tests.support import Cli


def evaluation(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "eval.json").read_text())
    return values


@pytest.fixture(scope="module")
def judged(
    zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    output = tmp_path_factory.mktemp("eval")
    engines = ("--engine", zoo["good"], "--engine", zoo["wrong"])
    done = cli("eval", labelled, *engines, "--output", output, "--bootstrap", 50)
    assert done.returncode == 0, done.stderr
    return done.stdout, output


def test_a_good_engine_gets_a_perfect_table(judged: tuple[str, Path]) -> None:
    good = evaluation(judged[1])["engines"][0]
    assert good["quality"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert good["quality"]["auc"]["value"] == 1.0
    assert good["quality"]["confusion"] == [[6, 0], [0, 6]]
    for row in ("ROC AUC", "F1 (weighted)", "mean confidence when wrong", "ECE (15 bins)", "false-positive rate"):
        assert row in judged[0]


def test_an_engine_that_confuses_the_classes_is_named(judged: tuple[str, Path]) -> None:
    wrong = evaluation(judged[1])["engines"][1]
    assert wrong["quality"]["auc"]["value"] == 0.0
    assert "wrong: AUC is under 0.5: the classes may be swapped" in judged[0]
    assert "good: AUC" not in judged[0]


def test_two_engines_are_compared_image_by_image(judged: tuple[str, Path]) -> None:
    (found,) = evaluation(judged[1])["drifts"]
    assert (found["first"], found["second"], found["images"], len(found["flips"])) == ("good", "wrong", 12, 12)
    assert (judged[1] / "drift.png").is_file()
    assert "12 of 12 lie on another side of the threshold" in (judged[1] / "eval.md").read_text()


def test_what_was_said_of_every_image_is_kept(judged: tuple[str, Path]) -> None:
    with (judged[1] / "eval.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert {row["image"] for row in rows} == {f"{label}/{n}.png" for label in ("fake", "real") for n in range(6)}
    assert all((float(row["probability_fake"]) >= 0.5) == (row["label"] == "fake") for row in rows[:12])


def test_swapped_classes_are_right_again_the_other_way(labelled: Path, cli: Cli, tmp_path: Path) -> None:
    swapped = write_bundle(tmp_path / "swapped", classes=("real", "fake"))
    done = cli("eval", labelled, "--engine", swapped, "--output", tmp_path / "out", "--bootstrap", 0, "--json", "-q")
    assert json.loads(done.stdout)["engines"][0]["quality"]["auc"]["value"] == 0.0
    assert "build again with --classes real,fake" in (tmp_path / "out" / "eval.md").read_text()


@pytest.mark.parametrize(
    ("suffix", "size", "where"), [(".jpg", (320, 256), "file format"), (".png", (1200, 1000), "image size")]
)
def test_a_label_that_hides_in_size_or_format_is_reported(
    suffix: str, size: tuple[int, int], where: str, zoo: dict[str, Path], cli: Cli, tmp_path: Path
) -> None:
    for number in range(4):
        write_picture(tmp_path / "set" / "fake" / f"{number}.png", (170, 90, 80))
        write_picture(tmp_path / "set" / "real" / f"{number}{suffix}", (80, 100, 160), *size)
    done = cli("eval", tmp_path / "set", "--engine", zoo["good"], "--output", tmp_path / "out", "--bootstrap", 0)
    assert f"the label hides in the {where}: guessing by it alone is right for 100%" in done.stdout


def test_labels_from_a_table(zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nfake/0.png,fake\nreal/0.png,Real\nreal/1.png,fake\n")
    done = cli(
        "eval", labelled, "--labels", table, "--engine", zoo["good"], "--output", tmp_path / "out", "--bootstrap", 0
    )
    assert done.returncode == 0, done.stderr
    assert evaluation(tmp_path / "out")["engines"][0]["quality"]["confusion"] == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\nfake/0.png,maybe\n", "line 2: expected the columns path and label"),
        ("name,truth\nfake/0.png,fake\n", "line 2: expected the columns path and label"),
        ("path,label\nnowhere.png,fake\n", "no such file below"),
        ("path,label\n", "holds no labelled images"),
    ],
)
def test_a_table_that_cannot_be_used(
    text: str, expected: str, zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    done = cli("eval", labelled, "--labels", tmp_path / "labels.csv", "--engine", zoo["good"])
    assert done.returncode == 1
    assert expected in done.stderr


def test_images_that_cannot_be_judged_count_in_no_figure(zoo: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    folder = write_labelled_pictures(tmp_path / "set", 2)
    (folder / "real" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    write_picture(folder / "unsorted" / "x.png", (90, 90, 90))
    done = cli("eval", folder, "--engine", zoo["good"], "--output", tmp_path / "out", "--bootstrap", 0)
    assert done.returncode == 1
    assert "1 images could not be judged" in done.stdout
    assert "1 images lie neither under `fake` nor under `real`" in done.stdout
    assert evaluation(tmp_path / "out")["engines"][0]["quality"]["images"] == 4


def test_one_class_alone_has_no_auc(zoo: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    write_picture(tmp_path / "set" / "fake" / "0.png", (170, 90, 80))
    done = cli("eval", tmp_path / "set", "--engine", zoo["good_resize"], "--output", tmp_path / "out", "--bootstrap", 0)
    assert done.returncode == 0, done.stderr
    assert "only one class is there: no AUC" in done.stdout


def test_the_decision_of_a_bundle_is_evaluated_as_it_is(labelled: Path, cli: Cli, tmp_path: Path) -> None:
    decided = write_bundle(tmp_path / "decided", "resize")
    small = tier("small", 0.9, 0.1, TierRule(longer_below=1000))
    calibration = calibrate(decided, small, tier("the rest", 0.6, 0.4))
    for number in range(3):  # scores near 0.5 are unsure
        write_picture(tmp_path / "set" / "fake" / "grey" / f"{number}.png", (110, 110, 110 + number))
        write_picture(tmp_path / "set" / "real" / "red" / f"{number}.png", (170 + number, 90, 80))
        write_picture(tmp_path / "set" / "real" / "blue" / f"{number}.png", (80, 100, 160 + number))
    write_picture(tmp_path / "set" / "fake" / "large" / "0.png", (170, 90, 80), 1000, 300)
    done = cli("eval", tmp_path / "set", "--engine", decided, "--output", tmp_path / "out", "--bootstrap", 0, "-q")
    assert done.returncode == 0, done.stderr
    assert f"calibrated {calibration.id}" in done.stdout
    found = evaluation(tmp_path / "out")["engines"][0]["decision"]
    assert (found["basis"], found["id"], found["unsure"]) == ("calibrated", calibration.id, 3)
    counts = {name: (rate["count"], rate["images"]) for name, rate in found["answers"].items()}
    assert counts == {"decided": (7, 10), "wrong": (3, 7), "fpr": (3, 6), "fnr": (0, 4)}
    rows = {
        (table["by"], table["error"]): [
            (row["group"], row["rate"]["count"], row["rate"]["images"]) for row in table["rows"]
        ]
        for table in found["tables"]
    }
    assert rows == {
        ("tier", "fpr"): [("small", 3, 6)],
        ("tier", "fnr"): [("small", 0, 3), ("the rest", 0, 1)],
        ("source", "fpr"): [("red", 3, 3), ("blue", 0, 3)],
        ("source", "fnr"): [("grey", 0, 3), ("large", 0, 1)],
    }
    assert "## decided: real images labelled fake, by source" in (tmp_path / "out" / "eval.md").read_text()
    with (tmp_path / "out" / "eval.csv").open(newline="") as file:
        answers = {row["image"]: (row["answer"], row["tier"]) for row in csv.DictReader(file)}
    assert answers["fake/grey/0.png"] == ("unsure", "small")
    assert answers["fake/large/0.png"] == ("fake", "the rest")


def test_a_bundle_without_a_decision_is_evaluated_at_its_threshold(judged: tuple[str, Path]) -> None:
    good = evaluation(judged[1])["engines"][0]["decision"]
    assert (good["basis"], good["id"], good["unsure"]) == ("threshold", None, 0)
    assert good["answers"]["wrong"]["value"] == 0


def test_no_table_calls_images_fake_or_real_by_untrained_weights(labelled: Path, cli: Cli, tmp_path: Path) -> None:
    for name in ("trained", "untrained"):
        bundle = write_bundle(tmp_path / name, trained=name == "trained")
        out = tmp_path / f"{name} out"
        assert cli("eval", labelled, "--engine", bundle, "--output", out, "--bootstrap", 0, "-q").returncode == 0
    row = "| {} | {} | {} | {} | {} | 0 |"
    assert row.format("trained", 6, 0, 0, 6) in (tmp_path / "trained out" / "eval.md").read_text()
    assert row.format("untrained", *"----") in (tmp_path / "untrained out" / "eval.md").read_text()


def test_the_former_name_of_an_option_is_refused_with_the_new_one(labelled: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", labelled, "--fpr", 0.1, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "here the option is --observed-fpr 0.1" in done.stderr
    assert "--fpr " not in cli("eval", "--help").stdout.replace("--observed-fpr ", "")


def test_errors_by_a_column_that_is_not_there(zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", labelled, "--engine", zoo["good"], "--by", "camera", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "no image has a 'camera'" in done.stderr


def test_one_part_is_evaluated_alone(zoo: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for number in range(count):
            write_picture(tmp_path / "set" / part / "fake" / f"{number}.png", (170, 90, 80))
            write_picture(tmp_path / "set" / part / "real" / f"{number}.png", (80, 100, 160))
    asked = ("eval", tmp_path / "set", "--engine", zoo["good"], "--output", tmp_path / "out", "--bootstrap", 0, "-q")
    done = cli(*asked, "--split", "test")
    assert done.returncode == 0, done.stderr
    found = evaluation(tmp_path / "out")
    assert found["split"] == "test"
    assert {item["name"].split("/")[0] for item in found["engines"][0]["judged"]} == {"test"}
    assert "# Evaluation on `set`, split `test`" in (tmp_path / "out" / "eval.md").read_text()
    done = cli(*asked, "--split", "val")
    assert (done.returncode, done.stderr) == (
        2, "error: --split val: no image lies in it; there are train (6), test (4)\n"
    )  # fmt: skip


def test_images_are_judged_as_infer_would(zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path: Path) -> None:
    options = ("--device", "cpu", "--draws", 2, "--crops", 3, "--workers", 1, "--max-pixels", 10_000_000)
    command = ("eval", labelled, "--engine", zoo["good"], "--output", tmp_path / "eval", "--bootstrap", 0)
    assert cli(*command, *options).returncode == 0
    told = cli("infer", labelled, "--engine", zoo["good"], *options, "--json").stdout
    expected = {str(Path(each["path"]).relative_to(labelled)): each["probability_fake"] for each in json.loads(told)}
    with (tmp_path / "eval" / "eval.csv").open(newline="") as file:
        found = {row["image"]: float(row["probability_fake"]) for row in csv.DictReader(file)}
    assert found == pytest.approx(expected, abs=1e-6)
