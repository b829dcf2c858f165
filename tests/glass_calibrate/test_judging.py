"""Scores are kept, and a run that was cut short goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from glass_calibrate.judging import Judged, judge_labelled

from glass_rt.detector import Detector
from glass_rt.errors import UsageError
from glass_rt.inference.decision_rule import conditions_of
from glass_rt.labelled.labels import LabelledImage, labelled_images
from glass_rt.options import DetectOptions
from tests.glass_calibrate.scenes import write_scene, write_scenes


@pytest.fixture
def few(tmp_path: Path) -> list[LabelledImage]:
    return labelled_images(write_scenes(tmp_path / "few", 6), "folder")[0]


@pytest.fixture(scope="module")
def detector(engine: Path) -> Iterator[Detector]:
    with Detector.open(engine, workers=1) as opened:
        yield opened


def judge(detector: Detector, images: list[LabelledImage], folder: Path, stopped: Event | None = None) -> Judged:
    folder.mkdir(exist_ok=True)
    options = DetectOptions()
    conditions = conditions_of(detector.manifest, options)
    return judge_labelled(detector, images, folder, options, conditions, stopped or Event())


def rows(folder: Path) -> list[str]:
    return [json.loads(line)["path"] for line in (folder / "scores.jsonl").read_text().splitlines()]


def test_scores_are_those_of_the_detector_to_the_last_bit(
    detector: Detector, few: list[LabelledImage], tmp_path: Path
) -> None:
    judged, again = (judge(detector, few, tmp_path / "out") for _ in range(2))
    assert judged == again  # the second is read from the file
    for image in few:
        assert judged.scored[image.path].score == detector.detect(image.path).probability_fake
    assert len(rows(tmp_path / "out")) == 12


def test_a_run_that_was_interrupted_goes_on(detector: Detector, few: list[LabelledImage], tmp_path: Path) -> None:
    folder, stopped = tmp_path / "out", Event()
    judge(detector, few[:3], folder)
    stopped.set()
    with pytest.raises(KeyboardInterrupt):
        judge(detector, few, folder, stopped)
    assert rows(folder) == [image.path for image in few[:3]]
    with (folder / "scores.jsonl").open("a") as file:
        file.write('{"schema": 2, "path": "')  # cut in the middle of a row
    judged = judge(detector, few, folder)
    assert len(judged.scored) == 12
    assert sorted(rows(folder)) == sorted(image.path for image in few)


def test_an_image_that_has_changed_is_judged_again(
    detector: Detector, few: list[LabelledImage], tmp_path: Path
) -> None:
    before = judge(detector, few, tmp_path / "out")
    changed = few[3].path
    write_scene(Path(changed), 60, np.random.Generator(np.random.PCG64(9)))
    after = judge(detector, few, tmp_path / "out")
    assert after.scored[changed].score > before.scored[changed].score
    assert after.scored[changed] == judge(detector, few, tmp_path / "new").scored[changed]
    assert {path for path in after.scored if after.scored[path] != before.scored[path]} == {changed}


def test_what_could_not_be_judged_is_tried_again(detector: Detector, few: list[LabelledImage], tmp_path: Path) -> None:
    broken, absent = few[0].path, few[1].path
    content = Path(absent).read_bytes()
    Path(broken).write_bytes(b"no image")
    Path(absent).unlink()
    for _ in range(2):
        judged = judge(detector, few, tmp_path / "out")
        assert judged.unjudged.keys() == {broken, absent}
        assert judged.unjudged[absent] == "not_readable: no such file"
    for path in (broken, absent):
        Path(path).write_bytes(content)
    judged = judge(detector, few, tmp_path / "out")
    assert (len(judged.scored), judged.unjudged) == (12, {})


def test_a_folder_of_other_scores_is_refused(detector: Detector, few: list[LabelledImage], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    judge(detector, few[:1], folder)
    (folder / "scores.json").unlink()
    with pytest.raises(UsageError, match=r"is there without scores.json: choose another folder"):
        judge(detector, few, folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("probability_fake", None), ("probability_fake", "0.3"), ("width", None), ("width", 1.5), ("format", 7)],
)
def test_a_row_that_is_no_score_is_named(
    detector: Detector, few: list[LabelledImage], tmp_path: Path, name: str, value: object
) -> None:
    folder = tmp_path / "out"
    judge(detector, few, folder)
    lines = (folder / "scores.jsonl").read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), name: value})
    (folder / "scores.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=r"scores\.jsonl: the row of .*") as refusal:
        judge(detector, few, folder)
    assert few[2].path in str(refusal.value)
