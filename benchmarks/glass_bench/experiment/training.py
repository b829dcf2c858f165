"""Training by the paper's recipe, scaled down: GLASS and resize-only from random weights, on a CPU, in minutes.

The trainer is that of `glass-rt train`, fed with views that are held in memory. What is not the paper's: the rates are
higher (the paper fine-tunes ImageNet weights, here they are random), float32 instead of mixed precision, batch
statistics that follow faster, and first convolutions that begin as high passes. Both models get it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from glass_export.backbones import find_backbone
from glass_train.data.examples import Example
from glass_train.data.order import draw_seed
from glass_train.loop.devices import make_fabric
from glass_train.loop.files import BEST
from glass_train.loop.logs import EPOCHS
from glass_train.loop.trainer import LoopSettings, Trainer
from glass_train.model.module import Trained as TrainedModule
from glass_train.model.start import NONE, start_model
from glass_train.recipe import FAST_BATCH_NORM, Recipe, Triple
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from glass_bench.experiment.views import ViewSet

WEIGHT_DECAYS = (1e-4, 1e-4, 0.0)
BATCH = 8
TIER = "clean"  # the scenes as they are


@dataclass(frozen=True)
class Epoch:
    """One line of the training log."""

    number: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, eq=False)
class Trained:
    """The best epoch's weights under a checkpoint's names, and the log."""

    state: dict[str, Tensor]
    log: tuple[Epoch, ...]
    best: Epoch


@dataclass(frozen=True, eq=False)
class StoredViews:
    """A view set as examples: K of the stored crops in every turn, the first K where none is given."""

    views: ViewSet
    crops: int
    seed: int

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (N,), 0 fake or 1 real."""
        return self.views.labels

    @cached_property
    def pairs(self) -> Sequence[str | None]:
        """None: a batch holds unrelated scenes."""
        return [None] * len(self.views.labels)

    def name(self, index: int) -> str:
        """The scene's number."""
        return f"scene {index // 2}"

    def example(self, index: int, turn: int | None) -> Example:
        """The views of a scene."""
        if not self.crops:
            return Example(self.views.baseline_views[index], self.views.crops[index, :0])
        chosen = np.arange(self.crops)
        if turn is not None:
            generator = np.random.Generator(np.random.PCG64(draw_seed(self.seed, turn, index)))
            chosen = generator.permutation(self.views.crops.shape[1])[: self.crops]
        return Example(self.views.global_views[index], self.views.crops[index, chosen])


def recipe_for(backbone: str, epochs: int, crops: int, learning_rates: Triple) -> Recipe:
    """The experiment's recipe; `crops` 0 for the resize-only model."""
    return Recipe(
        batch=BATCH,
        crops=crops,
        dropout=find_backbone(backbone).dropout,
        learning_rates=learning_rates,
        weight_decays=WEIGHT_DECAYS,
        epochs=epochs,
        high_pass=True,
        batch_norm_momentum=FAST_BATCH_NORM,
    )


def train(
    architecture: str,
    backbone: str,
    recipe: Recipe,
    training: ViewSet,
    validation: ViewSet,
    seed: int,
    folder: Path,
    report: Callable[[str], None] = lambda _line: None,
) -> Trained:
    """Trains one model from random weights in `folder`; the same numbers for the same seed, machine and threads."""
    row = find_backbone(backbone)
    model = start_model(row, architecture, NONE, recipe, seed)
    trainer = Trainer(
        make_fabric(recipe, "cpu", 1),
        TrainedModule(model, row),
        recipe,
        StoredViews(training, recipe.crops, seed),
        {TIER: StoredViews(validation, recipe.crops, seed)},
        folder,
        LoopSettings(seed, workers=1),
        report,
    )
    state = trainer.run()
    log = tuple(_epochs(folder / EPOCHS))
    return Trained(load_file(folder / BEST), log, log[state.best_epoch - 1])


def _epochs(path: Path) -> list[Epoch]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Epoch(int(row["epoch"]), *(float(row[name]) for name in ("loss", f"{TIER}_loss", f"{TIER}_accuracy")))
            for row in csv.DictReader(file)
        ]
