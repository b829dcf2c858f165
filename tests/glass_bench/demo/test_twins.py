"""The first part of `make demo`, run for real: what it shows is true, and needs neither PyTorch nor ONNX."""

import subprocess
import sys
from pathlib import Path

import pytest
from glass_bench.demo.twins import FIGURE, MODELS, SCENE, Outcome, in_words, judge_twins
from glass_bench.experiment.claim import ClaimOptions, _specs

from glass_rt.image.encoded import load

WITHOUT_PYTORCH = """
import sys
for name in ("torch", "torchvision", "onnx", "onnxscript", "openvino", "PIL"):
    sys.modules[name] = None  # importing it fails
from glass_bench.demo.twins import main
main()
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def outcome(output: Path) -> Outcome:
    return judge_twins(MODELS, output)


def test_glass_tells_the_pictures_apart(outcome: Outcome) -> None:
    assert outcome.glass.with_artefact.probability_fake > 0.8
    assert outcome.glass.without.probability_fake < 0.2


def test_resize_only_gives_nearly_the_same_number_twice(outcome: Outcome) -> None:
    assert outcome.resize.difference < 0.02


def test_the_difference_is_in_the_pixels_and_gone_from_the_resized_view(outcome: Outcome) -> None:
    assert outcome.native > 3
    assert outcome.resized < outcome.native / 8


def test_both_models_are_trained_and_of_the_same_pictures(outcome: Outcome) -> None:
    verdicts = (*outcome.glass.verdicts, *outcome.resize.verdicts)
    assert all(verdict.trained for verdict in verdicts)
    assert [verdict.engine.architecture for verdict in verdicts] == ["glass", "glass", "resize", "resize"]
    assert outcome.glass.with_artefact.sha256 == outcome.resize.with_artefact.sha256


def test_the_scene_is_of_neither_training_nor_test() -> None:
    seed, count = ClaimOptions().seed, 1000
    used = {spec.seed for offset in range(3) for spec in _specs(count, 3 * seed + offset)}
    assert SCENE.seed not in used


def test_the_words_say_what_happened(outcome: Outcome, output: Path) -> None:
    lines = in_words(outcome, output).splitlines()
    assert len(lines) == 6
    assert "GLASS" in lines[2]
    assert "tells them apart" in lines[2]
    assert "resize-only" in lines[3]
    assert "sees no difference" in lines[3]
    assert "cannot detect AI-generated images" in lines[5]
    assert not any(word in " ".join(lines) for word in ("FAKE", "REAL"))


def test_the_evidence_picture_shows_both(outcome: Outcome, output: Path) -> None:
    assert outcome.native > 0
    picture = load(str(output / FIGURE)).info
    assert picture.width > 2 * SCENE.width
    assert picture.height > SCENE.height


def test_it_runs_with_the_runtime_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_PYTORCH, "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tells them apart" in done.stdout
