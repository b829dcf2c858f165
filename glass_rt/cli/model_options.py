"""The options of `build` and `export` that say which model is meant, as one argument."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import click

from glass_rt.bundle.manifest import ARCHITECTURES
from glass_rt.cli.option_group import option_group


@dataclass(frozen=True)
class ModelChoice:
    """A model as the command line names it; what is None was not said."""

    backbone: str | None
    architecture: str | None
    weights: str | None
    classes: str | None
    crops: int | None

    def for_export(self) -> dict[str, Any]:
        """The same as arguments of the export stage's options."""
        return {**asdict(self), "classes": tuple((self.classes or "fake,real").split(","))}


# The command gets `model`, a ModelChoice.
model_options = option_group(
    "model",
    ModelChoice,
    (
        click.option(
            "--backbone",
            metavar="NAME",
            help="vit_b16, resnet50, convnext_tiny, resnet18, mobilenet_v3_small, or timm:NAME.",
        ),
        click.option(
            "--architecture",
            type=click.Choice(ARCHITECTURES),
            help="glass, or the resize-only baseline.  [default: glass, or what the checkpoint is]",
        ),
        click.option(
            "--weights",
            metavar="FILE",
            help="Checkpoint (.pt, .pth, .safetensors), or `imagenet`.  [default: untrained]",
        ),
        click.option(
            "--classes",
            metavar="A,B",
            help="Meaning of the checkpoint's two logits, in order.  [default: fake,real]",
        ),
        click.option(
            "--crops",
            type=click.IntRange(1),
            metavar="K",
            help="Number of crops that the model was trained with.  [default: the authors']",
        ),
    ),
)
