"""The small experiment, made tiny: from seed to report, and its checkpoints through the PyTorch pipelines."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from glass_bench.errors import BenchError
from glass_bench.experiment.claim import ClaimOptions, run_claim, verdict
from glass_bench.experiment.scenes import SceneSpec, render, scene_specs, uneven_gain
from glass_bench.measure.contenders import Contender
from glass_bench.measure.systems import open_system
from glass_bench.report.statistics import Interval
from safetensors.numpy import load_file, save_file

from glass_rt.bundle.bundle import HEAD, REFERENCE, Bundle
from glass_rt.bundle.folder import read_manifest, write_manifest
from glass_rt.bundle.manifest import bundle_from_json
from glass_rt.image.encoded import load
from glass_rt.image.views import baseline_view, global_view
from glass_rt.inference.head import Head
from tests.support import Cli

pytestmark = pytest.mark.slow

SPEC = SceneSpec(seed=7, width=1280, height=960, unevenness=0.04)


@pytest.fixture(scope="module", autouse=True)
def _settings_of_torch() -> Iterator[None]:
    """The experiment settles PyTorch's threads and algorithms for its process; here other tests come after it."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the experiment writes, of a size that teaches nobody anything."""
    output = tmp_path_factory.mktemp("claim")
    run_claim(ClaimOptions(seed=1, scenes=4, test_scenes=3, epochs=1, backend="onnxruntime"), output)
    return output


def test_the_uneven_gain_leaves_every_two_by_two_pixels_as_bright() -> None:
    gain = uneven_gain(6, 8, 0.05).astype(np.float64)
    assert gain.reshape(3, 2, 4, 2).mean(axis=(1, 3)) == pytest.approx(np.ones((3, 4)))
    assert sorted({round(value, 4) for value in gain.ravel()}) == [0.9025, 0.9975, 1.1025]


def test_the_evidence_is_in_the_pixels_and_not_in_the_resized_image() -> None:
    fake, real = (load(data).pixels for data in render(SPEC))
    differs = np.abs(fake.astype(float) - real).mean()
    resized = np.abs(global_view(fake, 224) - global_view(real, 224)).mean()
    baseline = np.abs(baseline_view(fake, 224) - baseline_view(real, 224)).mean()
    assert differs > 3
    assert max(resized, baseline) < differs / 8


def test_scenes_follow_from_their_seed() -> None:
    first, second, other = (scene_specs(5, seed, (1, 4), (0.02, 0.05)) for seed in (3, 3, 4))
    assert first == second != other
    assert render(SPEC) == render(SPEC)
    assert all(spec.width * spec.height * 1.01 > 1e6 and spec.width % 2 == spec.height % 2 == 0 for spec in first)


def test_the_experiment_writes_its_report_and_says_what_its_weights_are(claim: Path) -> None:
    report = (claim / "claim.md").read_text()
    assert "NOT a detector of AI-generated images" in report
    assert "ROC AUC" in report
    values = json.loads((claim / "eval.json").read_text())
    assert [engine["architecture"] for engine in values["engines"]] == ["glass", "resize"]
    assert all(engine["trained"] for engine in values["engines"])
    assert (claim / "artefact.safetensors").stat().st_size < 10e6


def test_its_weights_may_be_read_by_whom_its_report_may(claim: Path) -> None:
    modes = {path.name: path.stat().st_mode for path in claim.iterdir() if path.is_file()}
    assert set(modes.values()) == {(claim / "claim.md").stat().st_mode}, modes


@pytest.mark.parametrize(
    ("auc", "says"),
    [
        (Interval(0.50, 0.43, 0.57), "holds"),
        (Interval(0.53, 0.51, 0.55), "does NOT hold"),  # near chance, but its interval leaves chance out
        (Interval(0.46, 0.44, 0.49), "does NOT hold"),
    ],
)
def test_the_claim_holds_only_where_resize_only_cannot_be_told_from_chance(auc: Interval, says: str) -> None:
    glass = SimpleNamespace(images=160, accuracy=Interval(0.97, 0.95, 0.99), auc=Interval(0.99, 0.98, 1.0))
    resize = SimpleNamespace(images=160, accuracy=Interval(0.50, 0.42, 0.58), auc=auc)
    engines = [SimpleNamespace(quality=quality, ms_per_image=1.0) for quality in (glass, resize)]
    assert verdict(SimpleNamespace(engines=engines)).startswith(f"The claim {says} here")  # type: ignore[arg-type]


def test_both_classes_have_the_same_sizes_and_format(claim: Path) -> None:
    guesses = json.loads((claim / "eval.json").read_text())["guesses"]
    assert [guess["accuracy"] - guess["base_rate"] for guess in guesses] == [0, 0]


@pytest.mark.parametrize("name", ["artefact", "artefact_resize"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_pytorch_pipeline_says_what_the_engine_says(name: str, precision: str, claim: Path) -> None:
    picture = str(claim / "test" / "fake" / "scene-000.jpg")
    bundle, checkpoint = str(claim / "engines" / name), str(claim / f"{name}.safetensors")
    engine = open_system(Contender("engine", "engine", bundle))
    pytorch = open_system(Contender("torch", "pytorch", bundle, precision=precision, checkpoint=checkpoint))
    ours, theirs = engine.judge(picture), pytorch.judge(picture)
    assert ours.complaint is None
    assert theirs.complaint is None
    allowed = 2e-3 if precision == "fp32" else 5e-2
    assert ours.probability_fake == pytest.approx(theirs.probability_fake, abs=allowed)
    assert ours.windows == theirs.windows
    assert engine.check() is None


@pytest.mark.parametrize("size", [(1280, 960), (700, 500), (150, 300)])
def test_both_look_at_the_same_windows_of_any_image(size: tuple[int, int], claim: Path, tmp_path: Path) -> None:
    pixels = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), pixels)
    bundle, checkpoint = str(claim / "engines" / "artefact"), str(claim / "artefact.safetensors")
    engine = open_system(Contender("e", "engine", bundle, crops=3))
    pytorch = open_system(Contender("t", "pytorch", bundle, crops=3, checkpoint=checkpoint))
    ours, theirs = engine.judge(str(tmp_path / "noise.png")), pytorch.judge(str(tmp_path / "noise.png"))
    assert ours.probability_fake == pytest.approx(theirs.probability_fake, abs=2e-3)
    assert ours.windows == theirs.windows


def test_other_weights_are_refused(claim: Path) -> None:
    bundle = str(claim / "engines" / "artefact")
    with pytest.raises(BenchError, match=r"the seeded rule's weights are not those of artefact .* name its checkpoint"):
        open_system(Contender("t", "pytorch", bundle))


def test_an_engine_that_agrees_with_its_own_reference_alone_is_caught_by_its_answers(
    claim: Path, cli: Cli, tmp_path: Path
) -> None:
    """The parity gate cannot find it; the PyTorch pipeline of the weights that it claims to have does."""
    impostor = tmp_path / "impostor"
    shutil.copytree(claim / "engines" / "artefact_resize", impostor)
    head, reference = load_file(impostor / HEAD), load_file(impostor / REFERENCE)
    save_file({name: 30 * (tensor + 0.5) for name, tensor in head.items()}, impostor / HEAD)
    write_manifest(impostor, bundle_from_json(read_manifest(impostor)))
    bundle = Bundle.open(impostor)
    judge = Head.for_model(bundle.manifest.model, bundle.head()).judge
    logits = np.stack([judge(row, np.empty((0, 0), np.float32)).logits for row in reference["global_embeddings"]])
    save_file({**reference, "logits": logits}, impostor / REFERENCE)
    write_manifest(impostor, bundle.manifest)
    done = cli(
        "bench", "--engine", impostor, "--weights", claim / "artefact_resize.safetensors", "--images", claim / "test",
        "--output", tmp_path / "out", "--budget", 1, "--repeats", 1, "--sweeps", "", "--scenarios", "single", "--no-noop",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "WRONG: impostor: probabilities differ by up to" in done.stdout
    assert "those of impostor [PyTorch fp32], which has the same weights and windows" in done.stdout
