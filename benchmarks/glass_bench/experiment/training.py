"""Training by the paper's recipe, scaled down: GLASS and resize-only from random weights, on a CPU, in minutes.

What is the paper's: AdamW with a learning rate and weight decay of its own for the global backbone, the local
backbone, and attention with classifier (decay 0 on the last); cosine annealing to 1e-6; label smoothing 0.1; the best
epoch by validation accuracy. What is not: the rates are higher (the paper fine-tunes ImageNet weights, here they are
random), float32 instead of mixed precision, and batch statistics follow faster (momentum 0.1 instead of torchvision's
0.01 for MobileNetV3, which would need some 500 steps to forget its start). Also, the filters of each backbone's first
convolution start without their mean, as high passes: image forensics does so (Bayar and Stamm, IH&MMSec 2016), and
without ImageNet weights the search for a faint texture under strong contents takes far longer. Both models get it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from glass_export.backbones import find_backbone
from glass_export.model import Glass, ResizeOnly, build_model, checkpoint_module, normalise
from numpy.typing import NDArray
from torch import Tensor, nn

from glass_bench.experiment.views import ViewSet

FINAL_LEARNING_RATE = 1e-6
LABEL_SMOOTHING = 0.1
BATCH_NORM_MOMENTUM = 0.1


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; rates and decays are for (global, local, head), as far as the model has them."""

    epochs: int
    batch: int
    crops: int
    learning_rates: tuple[float, float, float]
    weight_decays: tuple[float, float, float] = (1e-4, 1e-4, 0.0)


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


def train(
    architecture: str,
    backbone: str,
    recipe: Recipe,
    training: ViewSet,
    validation: ViewSet,
    seed: int,
    report: Callable[[str], None] = lambda _line: None,
) -> Trained:
    """Trains one model from random weights; the same numbers for the same seed, machine and thread count."""
    torch.manual_seed(seed)
    order = np.random.Generator(np.random.PCG64(seed))
    model = build_model(find_backbone(backbone), architecture).to(memory_format=torch.channels_last)
    _prepare_layers(model)
    optimiser = torch.optim.AdamW(_parameter_groups(model, recipe))
    steps = recipe.epochs * -(-len(training.labels) // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, FINAL_LEARNING_RATE)
    loss_of = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    log: list[Epoch] = []
    best: tuple[Epoch, dict[str, Tensor]] | None = None
    for number in range(1, recipe.epochs + 1):
        model.train()
        losses = []
        for rows, crops in _batches(training, recipe, order):
            loss = loss_of(_logits(model, training, rows, crops), torch.from_numpy(training.labels[rows]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        epoch = Epoch(number, float(np.mean(losses)), *_validate(model, validation, recipe, loss_of))
        log.append(epoch)
        report(
            f"epoch {number:2d}: training loss {epoch.train_loss:.3f}, validation loss {epoch.validation_loss:.3f}, "
            f"accuracy {epoch.validation_accuracy:.3f}"
        )
        if best is None or _rank(epoch) > _rank(best[0]):
            state = checkpoint_module(model).state_dict()
            best = epoch, {name: tensor.clone() for name, tensor in state.items()}
    assert best is not None, "at least one epoch"
    return Trained(best[1], tuple(log), best[0])


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.validation_accuracy, -epoch.validation_loss


def _prepare_layers(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BATCH_NORM_MOMENTUM
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:  # the first of a backbone
            with torch.no_grad():
                module.weight -= module.weight.mean(dim=(2, 3), keepdim=True)


def _parameter_groups(model: Glass | ResizeOnly, recipe: Recipe) -> list[dict[str, object]]:
    if isinstance(model, Glass):
        head = [*model.attention.parameters(), *model.classifier.parameters()]
        groups = [list(model.global_model.parameters()), list(model.local_model.parameters()), head]
        rates, decays = recipe.learning_rates, recipe.weight_decays
    else:
        groups = [list(model.parameters())]
        rates, decays = recipe.learning_rates[:1] * 3, recipe.weight_decays[:1] * 3
    return [
        {"params": group, "lr": rate, "weight_decay": decay}
        for group, rate, decay in zip(groups, rates, decays, strict=False)
    ]


def _batches(
    views: ViewSet, recipe: Recipe, order: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of every batch of one epoch, and K of the stored crops for each row: (B,), (B, K)."""
    stored = views.crops.shape[1]
    shuffled = order.permutation(len(views.labels))
    for start in range(0, len(shuffled), recipe.batch):
        rows = shuffled[start : start + recipe.batch]
        yield rows, np.stack([order.permutation(stored)[: recipe.crops] for _ in rows])


def _logits(model: Glass | ResizeOnly, views: ViewSet, rows: NDArray[np.int64], crops: NDArray[np.int64]) -> Tensor:
    if isinstance(model, Glass):
        local = normalise(torch.from_numpy(views.crops[rows[:, None], crops]))  # (B, K, 3, S, S)
        logits, _ = model(_planes(views.global_views[rows]), local)
        result: Tensor = logits
        return result
    resized: Tensor = model(_planes(views.baseline_views[rows]))
    return resized


def _planes(pixels: NDArray[np.float32] | NDArray[np.uint8]) -> Tensor:
    return normalise(torch.from_numpy(pixels)).contiguous(memory_format=torch.channels_last)


def _validate(
    model: Glass | ResizeOnly, views: ViewSet, recipe: Recipe, loss_of: nn.CrossEntropyLoss
) -> tuple[float, float]:
    """(loss, accuracy) with the first K crops of every image."""
    model.eval()
    first = np.arange(recipe.crops)
    logits = []
    with torch.inference_mode():
        for start in range(0, len(views.labels), recipe.batch):
            rows = np.arange(start, min(start + recipe.batch, len(views.labels)))
            logits.append(_logits(model, views, rows, np.tile(first, (len(rows), 1))))
    joined, labels = torch.cat(logits), torch.from_numpy(views.labels)
    return float(loss_of(joined, labels)), float((joined.argmax(dim=1) == labels).float().mean())
