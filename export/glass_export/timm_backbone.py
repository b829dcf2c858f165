"""Backbones of timm, by their names there: which models can be one, and how they are built.

timm's feature extractor is the model without its classifier: pooled features, one row of D numbers an image. A name
may end in the tag of one set of weights (`resnet18.a1_in1k`); without one it stands for timm's default.
"""

from __future__ import annotations

import difflib
import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from glass_export.backbone import IMAGENET_SCALING, Backbone, Scaling
from glass_export.model import CROP_SIZE
from glass_rt.errors import CheckpointError, UsageError, first_line, import_failure
from glass_rt.machine.telemetry import keep_silent

PREFIX = "timm:"
CROPS, DROPOUT = 4, 0.2  # as for the small backbones of the table, which the paper does not have either
_LISTED = 5


@dataclass(frozen=True)
class TimmBackbone(Backbone):
    """A feature extractor of timm.

    `model` is timm's name with its tag. `resized`: timm builds this model for one size of image, which is another by
    default. The resize-only model has its parts under `features` and `head`.
    """

    library = "timm"
    proven = False
    weights_cache = "~/.cache/huggingface/hub"

    model: str
    resized: bool
    inputs: Scaling

    @property
    def scaling(self) -> Scaling:
        """That of timm's weights for this name."""
        return self.inputs

    def build(self, pretrained: bool = False) -> nn.Module:
        """timm's model without its classifier; `pretrained` downloads the weights that timm has for the name."""
        if pretrained and not _timm().models.is_model_pretrained(self.model):
            raise CheckpointError(
                f"timm has no weights of {self.model}: --weights FILE starts from a checkpoint of yours"
            )
        return _create(self.model, resized=self.resized, pretrained=pretrained)

    def embedding_only(self, model: nn.Module) -> nn.Module:
        """As it was built."""
        return model

    def with_linear_head(self, model: nn.Module) -> nn.Module:
        """Features and head in a row."""
        return nn.Sequential(OrderedDict(features=model, head=self._linear_head()))


@cache
def timm_backbone(name: str) -> TimmBackbone:
    """The backbone for a name of timm's, found without allocating its weights.

    Raises MissingDependency, and UsageError: a name that timm does not have (with those that are near), a model that
    cannot be run on images of 224 x 224 pixels, or one whose features are no row of numbers an image.
    """
    full = _full_name(name)
    given = _timm().models.get_pretrained_cfg(full)
    resized = given is not None and given.fixed_input_size and given.input_size[1:] != (CROP_SIZE, CROP_SIZE)
    return TimmBackbone(
        name=PREFIX + full,
        embedding_dim=_embedding_dim(full, given, resized=resized),
        resize_head="head",
        crops=CROPS,
        dropout=DROPOUT,
        model=full,
        resized=resized,
        inputs=_scaling(given),
    )


@cache
def _timm() -> Any:
    keep_silent()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            import timm
    except ImportError as error:
        raise import_failure(error, "timm", "timm", "a backbone of timm") from None
    return timm


def _full_name(name: str) -> str:
    """timm's name with the tag that it stands for. Raises UsageError."""
    models = _timm().models
    architecture, _, tag = name.partition(".")
    retired = models.get_deprecated_models()
    if name in retired:
        now = f"is called {PREFIX}{retired[name]} now" if retired[name] else "is no part of timm any longer"
        raise UsageError(f"backbone: {PREFIX}{name} {now}")
    if not models.is_model(architecture) or architecture in retired:
        known = models.list_models()
        near = difflib.get_close_matches(architecture, known, _LISTED, cutoff=0.5)
        hint = f"near names: {', '.join(near)}" if near else f"it has {len(known)}, such as convnext_tiny"
        raise UsageError(f"backbone: timm has no model {name!r}; {hint}")
    tags = [full.partition(".")[2] for full in models.get_arch_pretrained_cfgs(architecture)]
    if tag and tag not in tags:
        shown = ", ".join(filter(None, tags)) or "none"
        raise UsageError(f"backbone: timm has no weights {tag!r} of {architecture}; their tags: {shown}")
    default = models.get_pretrained_cfg(architecture)
    tag = tag or (default.tag if default is not None else "") or ""
    return f"{architecture}.{tag}" if tag else architecture


def _embedding_dim(name: str, given: Any, *, resized: bool) -> int:
    """D, by running the model without values. Raises UsageError where it cannot be a backbone."""
    try:
        with torch.device("meta"), torch.no_grad():
            features = _create(name, resized=resized).eval()(torch.empty(2, 3, CROP_SIZE, CROP_SIZE))
    except Exception as error:  # models check their input in many ways
        own = "x".join(map(str, given.input_size[1:])) if given is not None else "unknown"
        raise UsageError(
            f"backbone: {PREFIX}{name} cannot be run on images of {CROP_SIZE}x{CROP_SIZE} pixels (its own size is "
            f"{own}): {first_line(error)}"
        ) from None
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != 2:
        raise UsageError(
            f"backbone: {PREFIX}{name} gives {_shape(features)}; GLASS needs one row of numbers an image, (N, D)"
        )
    return int(features.shape[1])


def _scaling(given: Any) -> Scaling:
    """That of timm's weights; ImageNet's where timm knows nothing of a model."""
    if given is None:
        return IMAGENET_SCALING
    (red, green, blue), deviations = given.mean, given.std
    return Scaling((red, green, blue), (deviations[0], deviations[1], deviations[2]))


def _shape(features: object) -> str:
    """What a model gave for two images, in words."""
    if not isinstance(features, Tensor):
        return f"a {type(features).__name__}"
    sizes = ["N" if axis == 0 and size == 2 else str(size) for axis, size in enumerate(features.shape)]
    return f"features of shape ({', '.join(sizes)})"


def _create(name: str, *, resized: bool, pretrained: bool = False) -> nn.Module:
    """Of one size of image: a model for any would resample its table of positions within the graph."""
    size: dict[str, object] = {"img_size": CROP_SIZE} if resized else {}
    with _quiet():
        model: nn.Module = _timm().create_model(name, pretrained=pretrained, num_classes=0, **size)
        if getattr(model, "dynamic_img_size", False):
            size |= {"img_size": CROP_SIZE, "dynamic_img_size": False}
            model = _timm().create_model(name, pretrained=pretrained, num_classes=0, **size)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without timm's remarks, and those of the hub's client on every attempt to reach it."""
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
