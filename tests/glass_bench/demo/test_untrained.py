"""What `make demo` says of untrained weights: a number, and no label."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from glass_bench.demo.untrained import in_words, main
from glass_bench.sample import landscape

from glass_rt.image.encoded import load
from glass_rt.results.overlay import PANEL
from tests.support import Bundles, Cli, write_picture


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "a picture.jpg"
    write_picture(path, landscape(1200, 1000, seed=3))
    return path


def test_a_verdict_of_untrained_weights_is_a_number_and_no_label(bundles: Bundles, image: Path, tmp_path: Path) -> None:
    bundle = bundles("mobilenet_v3_small").folder
    done = CliRunner().invoke(main, ["--engine", str(bundle), "--output", str(tmp_path), str(image)])
    assert done.exit_code == 0, done.output
    assert "P(AI-generated) = 0." in done.output
    assert "UNTRAINED" in done.output
    assert not any(word in done.output for word in ("FAKE", "REAL", "fake", "real"))
    (picture,) = tmp_path.glob("a picture.*.jpg")
    assert f"what it looked at: {picture}" in done.output
    assert load(str(picture)).info.height == 1000 + PANEL


def test_the_numbers_are_those_of_infer(bundles: Bundles, image: Path, cli: Cli) -> None:
    verdict = json.loads(cli("infer", "--engine", bundles("mobilenet_v3_small").folder, "--json", image).stdout)
    words = in_words(verdict)
    assert f"{verdict['probability_fake']:.4f}" in words
    assert "1200 x 1000 jpeg, 4 crops, mobilenet_v3_small (onnxruntime fp32)" in words
    assert "UNTRAINED" not in in_words({**verdict, "trained": True})


def test_an_image_that_cannot_be_judged_fails(bundles: Bundles, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_text("no image")
    bundle = bundles("mobilenet_v3_small").folder
    done = CliRunner().invoke(main, ["--engine", str(bundle), "--output", str(tmp_path), str(tmp_path / "no.jpg")])
    assert done.exit_code == 1
    assert "not an image" in done.output
