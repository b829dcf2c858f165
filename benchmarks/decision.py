"""What a decision is worth: the guarantee on known scores, a calibration at full size, and what few images allow.

    python benchmarks/decision.py guarantee [--sets 5000] --output FOLDER
    python benchmarks/decision.py scenes [--scenes 600] --work FOLDER --output FOLDER
    python benchmarks/decision.py refusals LABELLED... --work FOLDER --output FOLDER

The first takes a minute or two. The second renders generated scenes (0.3 s and 1.3 MB each; those that are there stay),
judges them and calibrates the shipped engine of the experiment; others of as many scenes are evaluated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from glass_bench.decision.record import MODEL, guarantee_markdown, guarantee_record, scenes_record
from glass_bench.quality.report import quality_markdown, write_quality_plots
from glass_calibrate.fitting import Settings
from glass_calibrate.pipeline import Request, calibrate_bundle
from glass_calibrate.thresholds import Targets
from glass_engines.build import BuildOptions, build_bundle

from glass_rt.bundle.bundle import PortableModel
from glass_rt.errors import CalibrationInvalid
from glass_rt.labelled.labels import FOLDER, labelled_images
from glass_rt.machine.command_line import shown_command
from glass_rt.progress import reporter

_output = click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the records.")
_work = click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for pictures and engine.")


@click.group()
def main() -> None:
    """Record what decisions are worth."""


@main.command()
@click.option("--sets", type=click.IntRange(10), default=5000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=16, show_default=True)
@_output
def guarantee(sets: int, seed: int, output: Path) -> None:
    """Simulate the guarantee on scores that are known."""
    output.mkdir(parents=True, exist_ok=True)
    record = guarantee_record(sets, seed, reporter())
    (output / "guarantee.json").write_text(json.dumps({"seed": seed, **record.to_json()}, indent=1) + "\n")
    (output / "guarantee.md").write_text(guarantee_markdown(record))
    print(guarantee_markdown(record))
    sys.exit(0 if record.holds else 1)


@main.command()
@click.option("--scenes", type=click.IntRange(1), default=600, show_default=True)
@_work
@_output
def scenes(scenes: int, work: Path, output: Path) -> None:
    """Calibrate the experiment's engine on generated scenes, and evaluate it on others."""
    output.mkdir(parents=True, exist_ok=True)
    command = shown_command(sys.argv).replace("glass-rt", "python benchmarks/decision.py", 1)
    _, evaluation = scenes_record(scenes, work, output, command, reporter())
    folder = output / "evaluation"
    folder.mkdir(exist_ok=True)
    evaluation.write(folder)
    (folder / "eval.md").write_text(quality_markdown(evaluation, write_quality_plots(evaluation, folder)))
    print(f"wrote {output}")


@main.command()
@click.argument("labelled", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@_work
@_output
def refusals(labelled: tuple[Path, ...], work: Path, output: Path) -> None:
    """Try to calibrate on sets that are too small, and record what is said."""
    output.mkdir(parents=True, exist_ok=True)
    build_bundle(PortableModel.open(MODEL), work / "glass", BuildOptions("onnxruntime"), force=True)
    found = []
    for folder in labelled:
        images, _ = labelled_images(folder, FOLDER)
        fakes = sum(image.fake for image in images)
        report = work / f"report-{folder.resolve().name}"
        report.mkdir(parents=True, exist_ok=True)
        for tiers in (True, False):
            settings = Settings(Targets(fpr=0.01, fnr=0.05, confidence=0.95), tiers=tiers)
            try:
                calibrate_bundle(Request(work / "glass", folder, FOLDER, settings, report, dry_run=True))
                said = "calibrated"
            except CalibrationInvalid as refusal:
                said = str(refusal)
            counts = {"real": len(images) - fakes, "fake": fakes}
            found.append({"images": folder.resolve().name, **counts, "tiers": tiers, "said": said})
    (output / "refusals.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
