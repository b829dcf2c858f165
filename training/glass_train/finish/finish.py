"""The end of a run: the best weights become a bundle, the bundle judges the test split, and the card says so."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glass_engines.build import BuildOptions, build_bundle
from glass_engines.registry import choose_backend, find_compiler
from glass_export.portable import ExportOptions, prepare_export

from glass_rt.bundle.bundle import Bundle
from glass_rt.machine.write_whole import write_whole
from glass_rt.progress import Stage
from glass_train.audit.dataset import swapped_containers
from glass_train.audit.swap import QUALITY_96
from glass_train.data.parts import Dataset
from glass_train.data.scan import Scanned
from glass_train.data.tiers import DEFAULT_TIERS
from glass_train.delivery.step import Step
from glass_train.finish.card import CARD, card_markdown
from glass_train.finish.decision import calibrated
from glass_train.finish.facts import card_of
from glass_train.finish.judged import Judged, judge_tiers, rows
from glass_train.loop.files import BEST
from glass_train.loop.state import State
from glass_train.options import TrainOptions
from glass_train.recipe import Recipe

BUNDLE, TEST = "bundle", "test.csv"


def finish(options: TrainOptions, recipe: Recipe, dataset: Dataset, folder: Path, state: State, stage: Stage) -> None:
    """Writes `bundle/`, `test.csv`, `card.json` and `card.md`. A run that has its card already is left as it is.

    So the test split is judged once. Raises what building (the parity gate) and judging raise.
    """
    if (folder / CARD).exists():
        return
    for left in folder.glob(f".{BUNDLE}.partial-*"):  # by a kill while it was built
        shutil.rmtree(left, ignore_errors=True)
    build_best(options, recipe, folder, stage)
    kept_apart = dataset.parts["calibration"]
    calibration = calibrated(folder / BUNDLE, Path(options.data), kept_apart, folder, options.seed, stage)
    bundle = Bundle.open(folder / BUNDLE)
    tested: list[dict[str, Any]] | None = None
    images = dataset.parts["test"]
    if images:
        tiers = tuple(dict.fromkeys(("clean", *DEFAULT_TIERS, *options.tiers)))
        with stage(f"judging {len(images)} test images in {len(tiers)} tiers, and with other containers"):
            judged = judge_tiers(folder / BUNDLE, images, tiers, _other_containers(images, options))
        _write_test(folder, [scanned.image.name for scanned in images], judged)
        tested = rows(images, judged, bundle.manifest.threshold, options.seed)
    card = card_of(options, recipe, dataset, state, bundle, calibration, tested)
    write_whole(folder / "card.md", card_markdown(card).encode())
    write_whole(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())


def _other_containers(images: Sequence[Scanned], options: TrainOptions) -> dict[str, Sequence[tuple[Step, ...]]]:
    """The question of the shortcut audit again: every file re-encoded, and each as one of the other class is coded."""
    again: dict[str, Sequence[tuple[Step, ...]]] = {"re-encoded at quality 96": [QUALITY_96] * len(images)}
    swapped = swapped_containers(images, options.seed, options.loader_threads)
    return again if swapped is None else again | {"containers swapped": swapped}


def check_backend(asked: str) -> None:
    """Raises UsageError for a backend that there is not, MissingDependency where its library is not installed."""
    find_compiler(choose_backend(asked), "fp32").tools()


def build_best(options: TrainOptions, recipe: Recipe, folder: Path, stage: Stage) -> None:
    """Builds `bundle/` in the folder `folder` from the best weights in it. Raises ExportError, BuildError."""
    export = ExportOptions(
        backbone=options.backbone,
        architecture=options.architecture,
        weights=str(folder / BEST),
        crops=recipe.crops or None,
    )
    build_bundle(prepare_export(export, stage), folder / BUNDLE, BuildOptions(options.backend), force=True, stage=stage)


def _write_test(folder: Path, names: Sequence[str], judged: Sequence[Judged]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", *(one.tier for one in judged)])
    table.writerows(zip(names, *(one.probability.tolist() for one in judged), strict=True))
    write_whole(folder / TEST, text.getvalue().encode())
