"""From a seed to a report: make the pictures, train both models, build both engines, evaluate the engines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import torch
from glass_engines.build import BuildOptions, build_bundle, prepare_export
from glass_train.loop.files import write_weights
from glass_train.recipe import Recipe

from glass_bench.experiment.scenes import SceneSpec, render, scene_specs
from glass_bench.experiment.training import Trained, recipe_for, train
from glass_bench.experiment.views import ViewSet, view_set
from glass_bench.quality.evaluation import EvalOptions, EvalRecord, evaluate_engines
from glass_bench.quality.report import quality_markdown, quality_table, write_quality_plots
from glass_rt.labelled.labels import FOLDER, labelled_images
from glass_rt.machine.command_line import shown_command
from glass_rt.machine.environment import usable_cores
from glass_rt.progress import Stage, silent

BACKBONE = "mobilenet_v3_small"
MEGAPIXELS = (1.0, 4.0)
UNEVENNESS = (0.025, 0.06)
CROPS, STORED_CROPS = 4, 8
NAMES = {"glass": "artefact", "resize": "artefact_resize"}
NOTE = (
    "a detector of one upsampler's checkerboard artefact in generated scenes, trained in minutes to show what "
    "GLASS sees and a resized image does not; it is NOT a detector of AI-generated images"
)


@dataclass(frozen=True)
class ClaimOptions:
    """The size of the experiment; training, validation and test scenes differ, each is there as fake and as real."""

    seed: int = 606
    scenes: int = 100
    test_scenes: int = 80
    epochs: int = 8
    backend: str = "onnxruntime"

    @property
    def validation_scenes(self) -> int:
        """A quarter as many as to train on."""
        return max(2, self.scenes // 4)


def run_claim(options: ClaimOptions, output: Path, stage: Stage = silent) -> str:
    """Writes pictures, checkpoints, engines and the report under `output`; returns the report's verdict."""
    start = perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in the same order with any number of cores
    with stage(f"rendering {options.scenes} scenes to train on, twice each"):
        training = view_set(_specs(options.scenes, 3 * options.seed), STORED_CROPS)
        validation = view_set(_specs(options.validation_scenes, 3 * options.seed + 1), CROPS)
    with stage(f"rendering {options.test_scenes} scenes to test on, twice each"):
        pictures = write_pictures(_specs(options.test_scenes, 3 * options.seed + 2), output / "test")
    trained = {}
    for architecture in NAMES:
        with stage(f"training {architecture}\n   "):
            trained[architecture] = _train(architecture, training, validation, options, output, _printer(stage))
            _save(trained[architecture], output, architecture)
        with stage(f"building the engine of {architecture}"):
            _build(output, architecture, options.backend)
    images, unlabelled = labelled_images(pictures, FOLDER)
    engines = [output / "engines" / name for name in NAMES.values()]
    record = evaluate_engines(
        engines, pictures, images, unlabelled, EvalOptions(seed=options.seed), shown_command(sys.argv), stage
    )
    record.write(output)
    plots = write_quality_plots(record, output)
    text = verdict(record)
    report = [
        "# The claim, reproduced small",
        "",
        text,
        "",
        *_method(options, trained),
        "",
        f"From seed to report in {perf_counter() - start:.0f} s on {usable_cores()} cores.",
        "",
        quality_markdown(record, plots).replace("# Evaluation", "## Evaluation", 1),
    ]
    (output / "claim.md").write_text("\n".join(report), encoding="utf-8")
    return "\n".join([text, "", *quality_table(record)])


def verdict(record: EvalRecord) -> str:
    """Whether the claim holds here: GLASS's interval lies above resize-only's, and the latter's includes chance."""
    glass, resize = (engine.quality for engine in record.engines)
    assert glass.auc is not None, "both classes are there by construction"
    assert resize.auc is not None, "both classes are there by construction"
    wins = glass.accuracy.low > resize.accuracy.high and glass.auc.low > resize.auc.high
    chance = resize.auc.low <= 0.5 <= resize.auc.high
    says = "holds" if wins and chance else "does NOT hold"
    return (
        f"The claim {says} here: on {glass.images} pictures GLASS is right for {glass.accuracy.value:.1%} "
        f"(AUC {glass.auc.value:.3f}), resize-only for {resize.accuracy.value:.1%} (AUC {resize.auc.value:.3f}); "
        f"at {record.engines[0].ms_per_image:.0f} against {record.engines[1].ms_per_image:.0f} ms per image (one run). "
        f"Both engines are of the artefact in these pictures alone: {NOTE}."
    )


def write_pictures(specs: tuple[SceneSpec, ...], folder: Path) -> Path:
    """Every scene as `fake/scene-000.jpg` and `real/scene-000.jpg`."""
    for label in ("fake", "real"):
        (folder / label).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        for label, encoded in zip(("fake", "real"), render(specs[number]), strict=True):
            (folder / label / f"scene-{number:03d}.jpg").write_bytes(encoded)

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(write, range(len(specs))))
    return folder


def _specs(count: int, seed: int) -> tuple[SceneSpec, ...]:
    return scene_specs(count, seed, MEGAPIXELS, UNEVENNESS)


def _recipe(architecture: str, epochs: int) -> Recipe:
    """Resize-only sees a fifth of the views, so it gets twice the epochs: its failure is not for want of training."""
    if architecture == "glass":
        return recipe_for(BACKBONE, epochs, CROPS, (3e-4, 1e-3, 1e-3))
    return recipe_for(BACKBONE, 2 * epochs, 0, (1e-3, 1e-3, 1e-3))


def _train(
    architecture: str,
    training: ViewSet,
    validation: ViewSet,
    options: ClaimOptions,
    output: Path,
    report: Callable[[str], None],
) -> Trained:
    recipe = _recipe(architecture, options.epochs)
    folder = output / "training" / NAMES[architecture]
    return train(architecture, BACKBONE, recipe, training, validation, options.seed, folder, report)


def _save(trained: Trained, output: Path, architecture: str) -> None:
    """Weights as float16 where they have several axes: half the bytes; the engine is built from this very file."""
    tensors = {
        name: tensor.to(torch.float16).contiguous() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in trained.state.items()
    }
    write_weights(output / f"{NAMES[architecture]}.safetensors", tensors, {"note": NOTE})
    log = [asdict(epoch) for epoch in trained.log]
    (output / f"{NAMES[architecture]}.log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


def _build(output: Path, architecture: str, backend: str) -> None:
    """What `glass-rt build --weights FILE --crops K` does, called from here."""
    name = NAMES[architecture]
    prepared = prepare_export(
        silent,
        backbone=BACKBONE,
        architecture=architecture,
        weights=str(output / f"{name}.safetensors"),
        classes=("fake", "real"),
        crops=CROPS if architecture == "glass" else None,
        precisions=("fp32",),
    )
    build_bundle(prepared, output / "engines" / name, BuildOptions(backend), force=True)


def _printer(stage: Stage) -> Callable[[str], None]:
    if stage is silent:
        return lambda _line: None
    return lambda line: print(f"\n    {line}", end="", file=sys.stderr, flush=True)


def _method(options: ClaimOptions, trained: dict[str, Trained]) -> list[str]:
    bests = [
        f"- {architecture}: best of {len(found.log)} epochs is number {found.best.number}, validation accuracy "
        f"{found.best.validation_accuracy:.3f}"
        for architecture, found in trained.items()
    ]
    return [
        f"Seed {options.seed}. {options.scenes} scenes to train on, {options.validation_scenes} to choose the epoch, "
        f"{options.test_scenes} to test, each as fake and as real, {MEGAPIXELS[0]:g} to {MEGAPIXELS[1]:g} megapixels; "
        f"the fakes' rows and columns alternate in brightness by {UNEVENNESS[0]:.1%} to {UNEVENNESS[1]:.1%}. "
        f"Both models are {BACKBONE}, trained from random weights on the same pictures with the paper's optimiser, "
        "schedule and loss.",
        "",
        *bests,
    ]
