"""How a model is trained: the paper's values per backbone, each of which may be changed.

Source: arXiv 2601.00141, section 4, and the authors' search over rates and decays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from glass_export.backbone import Backbone

from glass_rt.errors import UsageError

FINAL_LEARNING_RATE = 1e-6  # where the cosine ends
LABEL_SMOOTHING = 0.1
LARGEST_BATCH = 1 << 16  # images, more than any training needs; a mistyped number would fill the memory
ROLES = ("global", "local", "head")
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}  # by Fabric's names
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training; rates and decays are for the global backbone, the local backbone, and the head.

    The resize-only model has one backbone, which takes the first values, and a head. `batch`: images of one step, which
    are computed in `accumulate` parts. `clip`: the largest norm of all gradients together. `ema`: the decay of the
    averaged weights, which are then validated and kept. `freeze`: roles whose parameters stay as they are.
    `local_first`: epochs at the beginning in which the local backbone alone learns, from each crop by itself;
    `crop_loss`: the weight of that loss afterwards. `high_pass`: the first convolutions begin without their mean.
    `patience`: epochs without a better validation after which training ends. `repeats`: visits of an image an epoch.
    `step_crops`: crops of an image in a step where these are to be fewer than `crops`, which stay those of validation
    and bundle. `freeze_statistics`: epochs of its learning after which a backbone keeps the batch statistics it has.
    Until then it sees every image beside the others of its batch, twins above all, and may judge it by comparison.
    """

    batch: int
    crops: int
    dropout: float
    learning_rates: Triple
    weight_decays: Triple
    epochs: int = 50
    accumulate: int = 1
    repeats: int = 1
    final_learning_rate: float = FINAL_LEARNING_RATE
    label_smoothing: float = LABEL_SMOOTHING
    clip: float | None = None
    ema: float | None = None
    freeze: tuple[str, ...] = ()
    local_first: int = 0
    crop_loss: float = 0.0
    high_pass: bool = False
    batch_norm_momentum: float | None = None
    freeze_statistics: int | None = None
    step_crops: int | None = None
    precision: str = "fp32"
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not all(math.isfinite(one) for one in _numbers(value)):
                raise UsageError(f"{name.replace('_', '-')}: got {value}; expected finite numbers")
        if not 2 <= self.batch <= LARGEST_BATCH or self.batch % 2:
            raise UsageError(
                f"batch: got {self.batch}; half of a batch is fake, so it is an even number, 2 to {LARGEST_BATCH}"
            )
        if not 1 <= self.accumulate <= self.batch:
            raise UsageError(f"accumulate: got {self.accumulate}; expected 1..{self.batch}, the images of a batch")
        if strange := [role for role in self.freeze if role not in ROLES]:
            raise UsageError(f"freeze: got {strange[0]!r}; expected some of {', '.join(ROLES)}")
        if not self.learning_roles:
            raise UsageError(f"freeze: with {', '.join(self.freeze)} frozen nothing is left that could learn")
        if self.local_first and "local" in self.freeze:
            raise UsageError("local-first: at first the local backbone alone learns, and --freeze keeps it as it is")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision: got {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        if self.local_first >= self.epochs:
            raise UsageError(f"local-first: got {self.local_first} of {self.epochs} epochs; leave some for the whole")
        if self.step_crops is not None and not 1 <= self.step_crops <= self.crops:
            raise UsageError(f"step-crops: got {self.step_crops}; expected 1..{self.crops}, the crops of an image")
        if min(self.learning_rates) < 0 or min(self.weight_decays) < 0:
            raise UsageError("learning rates and weight decays are not negative")

    @property
    def learning_roles(self) -> tuple[str, ...]:
        """Roles that are not frozen, of those that the model has; without crops it is the resize-only one."""
        return tuple(role for role in ROLES if role not in self.freeze and (self.crops or role != "local"))

    def settled(self, epoch: int) -> tuple[str, ...]:
        """Roles of the backbones that keep their batch statistics in an epoch, which is counted from 0."""
        learned = {"global": epoch - self.local_first, "local": epoch}
        wanted = self.freeze_statistics
        return () if wanted is None else tuple(role for role, epochs in learned.items() if epochs >= wanted)


def _numbers(value: object) -> tuple[float, ...]:
    """The numbers in a value of a recipe."""
    found = value if isinstance(value, tuple) else (value,)
    return tuple(one for one in found if isinstance(one, int | float))


@dataclass(frozen=True)
class _Paper:
    """The best values that the authors found for one backbone (ours for the small ones, which the paper lacks)."""

    batch: int
    learning_rates: Triple
    weight_decays: tuple[float, float]


_PAPER = {
    "vit_b16": _Paper(64, (1.58e-5, 4.26e-5, 6.48e-5), (3.2e-5, 6.1e-6)),
    "resnet50": _Paper(32, (2.16e-6, 6.85e-5, 2.98e-5), (1.8e-7, 6.0e-7)),
    "convnext_tiny": _Paper(32, (6.55e-6, 1.0e-4, 1.68e-5), (2.9e-6, 3.9e-7)),
}
_OURS = _Paper(32, (1e-4, 3e-4, 3e-4), (1e-4, 1e-4))
FROM_NOTHING: Triple = (3e-4, 1e-3, 1e-3)  # the claim experiment's; the paper's rates are for ImageNet weights
FAST_BATCH_NORM = 0.1  # torchvision's MobileNetV3 has 0.01, which needs some 500 steps to forget random weights


def default_recipe(backbone: Backbone, architecture: str, *, pretrained: bool) -> Recipe:
    """The paper's recipe for a backbone; with random weights (not `pretrained`) rates that can move them.

    Batch statistics of random weights follow faster too.
    """
    paper = _PAPER.get(backbone.name, _OURS)
    small = backbone.name not in _PAPER
    return Recipe(
        batch=paper.batch,
        crops=backbone.crops if architecture == "glass" else 0,
        dropout=backbone.dropout,
        learning_rates=paper.learning_rates if pretrained or not small else FROM_NOTHING,
        weight_decays=(*paper.weight_decays, 0.0),
        batch_norm_momentum=None if pretrained else FAST_BATCH_NORM,
    )
