"""Two pictures that differ in an artefact alone, and two models: GLASS tells the pictures apart, resize-only cannot.

python -m glass_bench.demo.twins --output demo

Needs the runtime, the engine stage and ONNX Runtime; PyTorch is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from glass_engines.build import BuildOptions, build_bundle

from glass_bench.demo.figure import draw_figure
from glass_bench.experiment.scenes import SceneSpec, render
from glass_rt import DetectOptions, Detector, Verdict
from glass_rt.bundle.bundle import PortableModel
from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load
from glass_rt.image.views import baseline_view
from glass_rt.progress import Stage, reporter, silent
from glass_rt.results.overlay import write_overlay

MODELS = Path(__file__).parents[2] / "demo_weights"
SCENE = SceneSpec(seed=14, width=1440, height=960, unevenness=0.04)  # a scene of neither training nor test
SEED = 606  # of the crops; the files' own would follow from what this machine's JPEG encoder writes
FIGURE = "evidence.jpg"
APART = 0.5  # pictures are told apart from this difference between their probabilities on


@dataclass(frozen=True)
class Judged:
    """One model's verdicts on the two pictures."""

    with_artefact: Verdict
    without: Verdict

    @property
    def verdicts(self) -> tuple[Verdict, Verdict]:
        """In the order of the pictures."""
        return self.with_artefact, self.without

    @property
    def difference(self) -> float:
        """By how much P(artefact) of the two pictures differs, 0..1."""
        return abs(self.with_artefact.probability_fake - self.without.probability_fake)


@dataclass(frozen=True)
class Outcome:
    """What both models say, and the mean differences between the pictures, in levels of 255.

    `native`: pixel by pixel; `resized`: between the views of 224 x 224.
    """

    glass: Judged
    resize: Judged
    native: float
    resized: float


def judge_twins(models: Path, output: Path, stage: Stage = silent) -> Outcome:
    """Writes the pictures, the bundles of both models and the evidence picture under `output`."""
    with stage("making two pictures"):
        pictures = _write_pictures(output)
    with stage("building an engine of GLASS"):
        glass = _build(models / "glass", output / "bundles" / "glass")
    with stage("building an engine of resize-only"):
        resize = _build(models / "resize", output / "bundles" / "resize")
    with stage("judging"):
        judged = _judge(glass, pictures), _judge(resize, pictures)
    pixels = [load(str(path)).pixels for path in pictures]
    views = [baseline_view(one, 224).astype(np.uint8) for one in pixels]  # whole levels already
    outcome = Outcome(*judged, _distance(*pixels), _distance(*views))
    with stage("drawing the evidence"):
        figure = draw_figure(pixels, views, outcome.glass.verdicts, outcome.resize.verdicts)
        write_overlay(output / FIGURE, figure)
    return outcome


def in_words(outcome: Outcome, output: Path) -> str:
    """What is printed: what was judged, what both models say, and why."""
    glass, resize = outcome.glass, outcome.resize
    return "\n".join(
        (
            f"{glass.with_artefact.path} and {glass.without.path} show the same scene; the first has an artefact that "
            "only its full resolution holds: a faint checkerboard.",
            "  P(artefact)    with  without",
            f"  GLASS          {_row(glass)}  sees the picture resized to 224 x 224, and 4 crops in full resolution",
            f"  resize-only    {_row(resize)}  sees the picture resized to 224 x 224",
            f"In full resolution the pictures differ by {outcome.native:.1f} levels of 255 on average, resized by "
            f"{outcome.resized:.1f}. Look at {output / FIGURE}.",
            "(Both models were trained in minutes to find this one artefact. They cannot detect AI-generated images.)",
        )
    )


def _row(judged: Judged) -> str:
    says = "tells them apart: " if judged.difference >= APART else "sees no difference:"
    return f"{judged.with_artefact.probability_fake:.2f}  {judged.without.probability_fake:.2f}     {says:19}"


def _write_pictures(output: Path) -> tuple[Path, Path]:
    output.mkdir(parents=True, exist_ok=True)
    paths = output / "with.jpg", output / "without.jpg"
    for path, encoded in zip(paths, render(SCENE), strict=True):
        path.write_bytes(encoded)
    return paths


def _build(model: Path, bundle: Path) -> Path:
    """What `glass-rt build --from MODEL --backend onnxruntime --output BUNDLE --force` does."""
    build_bundle(PortableModel.open(model), bundle, BuildOptions("onnxruntime"), force=True)
    return bundle


def _judge(bundle: Path, pictures: tuple[Path, Path]) -> Judged:
    """What `glass-rt infer --engine BUNDLE --seed 606` does."""
    with Detector.open(bundle) as detector:
        return Judged(*(detector.detect(str(path), DetectOptions(seed=SEED)) for path in pictures))


def _distance(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(np.float32) - other).mean())


@click.command()
@click.option("--models", type=click.Path(path_type=Path, exists=True), default=MODELS, help="Folder of both models.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
def main(models: Path, output: Path) -> None:
    """Judge two pictures that differ in one artefact, with GLASS and with resize-only."""
    click.echo(in_words(judge_twins(models, output, reporter()), output))


if __name__ == "__main__":
    main()
