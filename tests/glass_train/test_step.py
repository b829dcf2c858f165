"""A step, its groups, the schedule, averaged weights and parts of a batch: as plain PyTorch written out here."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from glass_export.backbones import find_backbone
from glass_export.model import Glass, build_model, normalise
from glass_train.data.loader import Batch
from glass_train.loop.devices import make_fabric
from glass_train.loop.optimiser import averaged, make_optimiser, make_schedule, parameter_groups
from glass_train.loop.step import train_step
from glass_train.model.module import Trained
from glass_train.model.start import prepare_layers
from glass_train.recipe import Recipe, default_recipe
from torch import Tensor, nn

from glass_rt.errors import TrainingError, UsageError

RECIPE = Recipe(
    batch=6,
    crops=2,
    dropout=0.0,
    learning_rates=(1e-3, 2e-3, 3e-3),
    weight_decays=(10.0, 20.0, 0.0),  # so large that a wrong one shows
    epochs=2,
)


def a_batch(images: int = 6, crops: int = 2) -> Batch:
    generator = np.random.Generator(np.random.PCG64(3))
    return Batch(
        tuple(f"{i}.png" for i in range(images)),
        np.arange(images) % 2,
        generator.uniform(0, 255, (images, 224, 224, 3)).astype(np.float32),
        generator.integers(0, 256, (images, crops, 224, 224, 3), dtype=np.uint8),
        (),
    )


def modules(backbone: str = "tiny_norm", architecture: str = "glass", **options: bool) -> tuple[Trained, Trained]:
    """Two with the same weights."""
    torch.manual_seed(1)
    row = find_backbone(backbone)
    one = Trained(build_model(row, architecture), row, **options)
    return one, copy.deepcopy(one)


def plain_loss(module: Trained, batch: Batch, smoothing: float = 0.1) -> Tensor:
    model = module.model
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    views = normalise(torch.from_numpy(batch.global_views))
    if isinstance(model, Glass):
        logits, _ = model(views, normalise(torch.from_numpy(batch.crops)))
    else:
        logits = model(views)
    result: Tensor = loss(logits, torch.from_numpy(batch.labels))
    return result


NOISE = "attention.3.bias"  # the softmax behind it forgets it, so that its gradient is rounding and nothing else


def assert_same(one: nn.Module, other: nn.Module, tolerance: float = 1e-6) -> None:
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        if tolerance and name.endswith(NOISE):
            continue
        assert torch.allclose(a, b, atol=tolerance, rtol=1e-5), name


def test_steps_are_those_of_plain_pytorch() -> None:
    ours, plain = modules()
    fabric = make_fabric(RECIPE, "cpu", 1)
    wrapped, optimiser = fabric.setup(ours, make_optimiser(ours, RECIPE))
    schedule = make_schedule(optimiser.optimizer, RECIPE, steps=4)
    average = averaged(ours, 0.75)
    model = plain.model
    assert isinstance(model, Glass)
    head = [*model.attention.parameters(), *model.classifier.parameters()]
    theirs = torch.optim.AdamW([
        {"params": model.global_model.parameters(), "lr": 1e-3, "weight_decay": 10.0},
        {"params": model.local_model.parameters(), "lr": 2e-3, "weight_decay": 20.0},
        {"params": head, "lr": 3e-3, "weight_decay": 0.0},
    ])  # fmt: skip
    mean: dict[str, Tensor] = {}
    for step in range(3):
        result = train_step(fabric, wrapped, optimiser, a_batch(), RECIPE)
        schedule.step()
        average.update_parameters(ours)
        for group, start in zip(theirs.param_groups, (1e-3, 2e-3, 3e-3), strict=True):
            group["lr"] = 1e-6 + (start - 1e-6) * (1 + math.cos(math.pi * step / 4)) / 2
        loss = plain_loss(plain, a_batch())
        assert result.loss == pytest.approx(float(loss.detach()), abs=1e-6)
        theirs.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        theirs.step()
        for name, tensor in plain.named_parameters():
            value = tensor.detach().clone()
            mean[name] = value if step == 0 else 0.75 * mean[name] + 0.25 * value
    # Adam divides by the gradient's size, so the noise of one that is almost 0 moves weights by up to a tenth of a step.
    assert_same(ours, plain, 1e-4)
    for name, tensor in average.module.named_parameters():
        if not name.endswith(NOISE):
            torch.testing.assert_close(tensor, mean[name], atol=1e-4, rtol=1e-5)


def test_averaged_weights_have_the_batch_statistics_of_the_newest() -> None:
    ours, _ = modules("tiny_batch")
    average = averaged(ours, 0.9)
    for _ in range(2):
        ours.train()(torch.from_numpy(a_batch().global_views), torch.from_numpy(a_batch().crops))
        average.update_parameters(ours)
    for name, buffer in ours.named_buffers():
        assert torch.equal(dict(average.module.named_buffers())[name], buffer)


@pytest.mark.parametrize("accumulate", [2, 4, 6])
def test_a_batch_in_parts_gives_the_step_of_the_whole(accumulate: int) -> None:
    whole, parted = modules()
    for module, parts in ((whole, 1), (parted, accumulate)):
        recipe = replace(RECIPE, accumulate=parts)
        fabric = make_fabric(recipe, "cpu", 1)
        wrapped, optimiser = fabric.setup(module, make_optimiser(module, recipe))
        train_step(fabric, wrapped, optimiser, a_batch(), recipe)
    gradients = [[parameter.grad for parameter in module.parameters()] for module in (whole, parted)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_gradients_are_clipped_to_the_norm_of_all_together() -> None:
    clipped, plain = modules()
    recipe = replace(RECIPE, clip=1e-3)
    fabric = make_fabric(recipe, "cpu", 1)
    wrapped, optimiser = fabric.setup(clipped, make_optimiser(clipped, recipe))
    train_step(fabric, wrapped, optimiser, a_batch(), recipe)
    plain_loss(plain, a_batch()).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 1e-3)
    for one, other in zip(clipped.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-9, rtol=1e-4)


def test_crops_teach_the_local_backbone_alone_at_first() -> None:
    ours, plain = modules(aid=True)
    fabric = make_fabric(RECIPE, "cpu", 1)
    wrapped, optimiser = fabric.setup(ours, make_optimiser(ours, RECIPE))
    result = train_step(fabric, wrapped, optimiser, a_batch(), RECIPE, local_only=True)
    model, batch = plain.model, a_batch()
    assert isinstance(model, Glass)
    assert plain.aid is not None
    by_crop = plain.aid(model.local_model(normalise(torch.from_numpy(batch.crops)).flatten(0, 1)))
    labels = torch.from_numpy(batch.labels).repeat_interleave(2)
    expected = nn.CrossEntropyLoss(label_smoothing=0.1)(by_crop, labels)
    assert result.loss == pytest.approx(float(expected.detach()), abs=1e-6)
    assert ours.model.state_dict()["global_model.mix.weight"].equal(plain.model.state_dict()["global_model.mix.weight"])
    assert not ours.model.state_dict()["local_model.mix.weight"].equal(
        plain.model.state_dict()["local_model.mix.weight"]
    )


def test_groups_have_the_rates_of_their_roles() -> None:
    ours, _ = modules(aid=True)
    groups = parameter_groups(ours, RECIPE)
    assert [(group["role"], group["lr"], group["weight_decay"]) for group in groups] == [
        ("global", 1e-3, 10.0), ("local", 2e-3, 20.0), ("head", 3e-3, 0.0),
    ]  # fmt: skip
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(ours.parameters()))


def test_the_resize_only_model_has_a_backbone_and_a_head() -> None:
    ours, plain = modules(architecture="resize")
    assert [group["role"] for group in parameter_groups(ours, RECIPE)] == ["global", "head"]
    fabric = make_fabric(RECIPE, "cpu", 1)
    wrapped, optimiser = fabric.setup(ours, make_optimiser(ours, RECIPE))
    batch = a_batch(crops=0)
    assert train_step(fabric, wrapped, optimiser, batch, RECIPE).loss == pytest.approx(
        float(plain_loss(plain, batch).detach())
    )


@pytest.mark.parametrize("architecture", ["glass", "resize"])
def test_what_is_frozen_neither_learns_nor_counts(architecture: str) -> None:
    ours, _ = modules("tiny_batch", architecture)
    before = copy.deepcopy(ours.state_dict())
    recipe = replace(RECIPE, freeze=("global",))
    ours.freeze(recipe.freeze)
    fabric = make_fabric(recipe, "cpu", 1)
    wrapped, optimiser = fabric.setup(ours, make_optimiser(ours, recipe))
    train_step(fabric, wrapped, optimiser, a_batch(crops=2 if architecture == "glass" else 0), recipe)
    changed = {name for name, tensor in ours.state_dict().items() if not torch.equal(tensor, before[name])}
    head = ("model.fc.1.", "model.model.fc.1.")
    frozen = {
        name for name in before if "global_model" in name or (architecture == "resize" and not name.startswith(head))
    }
    assert changed
    assert not changed & frozen


@pytest.mark.parametrize("roles", [("local",), ("global", "local")])
def test_backbones_that_are_settled_keep_their_batch_statistics_and_learn_on(roles: tuple[str, ...]) -> None:
    ours, _ = modules("tiny_batch")
    before = copy.deepcopy(ours.state_dict())
    ours.settle(roles)
    fabric = make_fabric(RECIPE, "cpu", 1)
    wrapped, optimiser = fabric.setup(ours, make_optimiser(ours, RECIPE))
    train_step(fabric, wrapped, optimiser, a_batch(), RECIPE)
    changed = {name for name, tensor in ours.state_dict().items() if not torch.equal(tensor, before[name])}
    for role in ("global", "local"):
        assert (f"model.{role}_model.norm.running_mean" in changed) == (role not in roles)
        assert f"model.{role}_model.conv.weight" in changed


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_batch_statistics_of_every_kind_are_kept(kind: type[nn.Module]) -> None:
    ours, _ = modules()
    norm = kind(8)  # as some models of timm have it over tokens
    assert isinstance(ours.model, Glass)
    ours.model.global_model.add_module("planted", norm)
    prepare_layers(ours.model, find_backbone("tiny_norm"), replace(RECIPE, batch_norm_momentum=0.3))
    assert norm.momentum == 0.3
    assert ours.train()
    assert norm.training
    ours.settle(("global",))
    assert ours.train()
    assert not norm.training


@pytest.mark.parametrize(("size", "without_mean"), [(3, True), (7, True), (1, False)])  # RepVGG begins with 1 and 3
def test_first_convolutions_of_more_than_one_pixel_begin_without_their_mean(size: int, without_mean: bool) -> None:
    ours, _ = modules()
    assert isinstance(ours.model, Glass)
    first = nn.Conv2d(3, 4, size)
    ours.model.global_model.add_module("planted", first)
    prepare_layers(ours.model, find_backbone("tiny_norm"), replace(RECIPE, high_pass=True))
    means = first.weight.detach().mean(dim=(2, 3))
    assert torch.allclose(means, torch.zeros(4, 3), atol=1e-7) == without_mean
    assert first.weight.detach().abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "settled"),
    [
        ({}, ((), (), (), ())),
        ({"freeze_statistics": 2}, ((), (), ("global", "local"), ("global", "local"))),
        ({"freeze_statistics": 1, "local_first": 2}, ((), ("local",), ("local",), ("global", "local"))),
    ],
)
def test_a_backbone_is_settled_after_epochs_of_its_own_learning(
    changes: dict[str, Any], settled: tuple[tuple[str, ...], ...]
) -> None:
    recipe = replace(RECIPE, epochs=4, **changes)
    assert tuple(recipe.settled(epoch) for epoch in range(4)) == settled


def test_a_loss_that_is_no_number_names_the_image_and_steps_nothing() -> None:
    ours, plain = modules()
    fabric = make_fabric(RECIPE, "cpu", 1)
    wrapped, optimiser = fabric.setup(ours, make_optimiser(ours, RECIPE))
    batch = a_batch()
    batch.global_views[3] = np.nan
    with pytest.raises(TrainingError, match=r"not a number for 3\.png$"):
        train_step(fabric, wrapped, optimiser, batch, RECIPE)
    assert_same(ours, plain, 0)


@pytest.mark.parametrize(
    ("backbone", "rates", "decays", "batch", "crops"),
    [  # the paper's
        ("vit_b16", (1.58e-5, 4.26e-5, 6.48e-5), (3.2e-5, 6.1e-6, 0.0), 64, 10),
        ("resnet50", (2.16e-6, 6.85e-5, 2.98e-5), (1.8e-7, 6.0e-7, 0.0), 32, 6),
        ("convnext_tiny", (6.55e-6, 1.0e-4, 1.68e-5), (2.9e-6, 3.9e-7, 0.0), 32, 4),
    ],
)
def test_the_recipe_is_the_papers(
    backbone: str, rates: tuple[float, ...], decays: tuple[float, ...], batch: int, crops: int
) -> None:
    recipe = default_recipe(find_backbone(backbone), "glass", pretrained=True)
    assert (recipe.learning_rates, recipe.weight_decays, recipe.batch, recipe.crops) == (rates, decays, batch, crops)
    assert (recipe.epochs, recipe.label_smoothing, recipe.final_learning_rate) == (50, 0.1, 1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 3}, "an even number"),
        ({"accumulate": 7}, "expected 1..6"),
        ({"freeze": ("nose",)}, "expected some of global, local, head"),
        ({"precision": "fp8"}, "expected one of fp32"),
        ({"local_first": 2}, "leave some for the whole"),
        ({"learning_rates": (1.0, -1.0, 1.0)}, "not negative"),
        ({"step_crops": 11}, "expected 1..2, the crops of an image"),
        ({"batch": 1 << 30}, "an even number, 2 to 65536"),
        ({"learning_rates": (float("nan"), 1.0, 1.0)}, "learning-rates: got .*; expected finite numbers"),
        ({"weight_decays": (float("inf"), 1.0, 1.0)}, "weight-decays: got .*; expected finite numbers"),
        ({"crop_loss": float("nan")}, "crop-loss: got nan; expected finite numbers"),
        ({"freeze": ("head", "local", "global")}, "nothing is left that could learn"),
        ({"freeze": ("head", "global"), "crops": 0}, "nothing is left that could learn"),  # the resize-only model
        ({"freeze": ("local",), "local_first": 1}, "--freeze keeps it as it is"),
    ],
)
def test_recipes_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(RECIPE, **changes)  # type: ignore[arg-type]
