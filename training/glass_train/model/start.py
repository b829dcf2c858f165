"""The model at the start: its weights, and what a recipe changes in its layers."""

from __future__ import annotations

from pathlib import Path
from typing import TypeGuard
from urllib.error import URLError

import torch
from glass_export.backbone import Backbone
from glass_export.checkpoint import fill, read_checkpoint
from glass_export.model import Glass, ResizeOnly, build_model, checkpoint_module
from torch import nn

from glass_rt.errors import CheckpointError, first_line
from glass_train.recipe import Recipe

IMAGENET, NONE = "imagenet", "none"
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)  # some models of timm normalise tokens with the first
AnyModel = Glass | ResizeOnly


def start_model(backbone: Backbone, architecture: str, weights: str, recipe: Recipe, seed: int) -> AnyModel:
    """A model in inference mode with `weights`: `imagenet`, `none` (random by the seed), or a checkpoint's path.

    Raises CheckpointError: no network and no ImageNet weights in the cache; a checkpoint that does not fit.
    """
    torch.manual_seed(seed)
    model = _pretrained(backbone, architecture) if weights == IMAGENET else build_model(backbone, architecture)
    if weights not in (IMAGENET, NONE):
        checkpoint = read_checkpoint(Path(weights), backbone.name, architecture)
        fill(checkpoint_module(model), checkpoint.tensors)
    prepare_layers(model, backbone, recipe)
    return model


def _pretrained(backbone: Backbone, architecture: str) -> AnyModel:
    try:
        return build_model(backbone, architecture, pretrained=True)
    except (URLError, OSError) as error:
        raise CheckpointError(
            f"the ImageNet weights of {backbone.name} cannot be downloaded ({first_line(error)}). Without a network: "
            "--weights none starts from random weights, --weights FILE from a checkpoint"
        ) from error


def prepare_layers(model: AnyModel, backbone: Backbone, recipe: Recipe) -> None:
    """Sets dropout and the momentum of batch statistics, and takes the mean from the filters of first convolutions.

    A filter without its mean is a high pass: image forensics begins so (Bayar and Stamm, IH&MMSec 2016), and without
    ImageNet weights the search for a faint texture under strong contents takes far longer.
    """
    for module in head_of(model, backbone):
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = recipe.dropout
    for part in model.modules():
        if isinstance(part, BATCH_NORMS) and recipe.batch_norm_momentum is not None:
            part.momentum = recipe.batch_norm_momentum
        if recipe.high_pass and _is_first(part):
            with torch.no_grad():
                part.weight -= part.weight.mean(dim=(2, 3), keepdim=True)


def _is_first(part: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a backbone's first convolution; of one pixel nothing would be left without its mean."""
    return isinstance(part, nn.Conv2d) and part.in_channels == 3 and max(part.kernel_size) > 1


def head_of(model: AnyModel, backbone: Backbone) -> tuple[nn.Module, ...]:
    """The modules behind the backbones: attention and classifier, or Dropout and Linear."""
    if isinstance(model, Glass):
        return model.attention, model.classifier
    return (model.model.get_submodule(backbone.resize_head),)


def backbones_of(model: AnyModel) -> dict[str, nn.Module]:
    """Backbones by role; the resize-only model's holds its head too."""
    if isinstance(model, Glass):
        return {"global": model.global_model, "local": model.local_model}
    return {"global": model.model}


def roles_of(model: AnyModel, backbone: Backbone) -> dict[str, list[nn.Parameter]]:
    """Parameters by role: `global`, `local` and `head`, as far as the model has them."""
    head = [parameter for module in head_of(model, backbone) for parameter in module.parameters()]
    ours = set(head)
    found = {
        role: [parameter for parameter in module.parameters() if parameter not in ours]
        for role, module in backbones_of(model).items()
    }
    return {**found, "head": head}
