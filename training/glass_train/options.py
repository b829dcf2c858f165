"""What a run is asked to do, as plain values: the command's options, and what a run's folder remembers of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from glass_export.backbone import Backbone
from glass_export.backbones import find_backbone

from glass_rt.bundle.manifest import ARCHITECTURES
from glass_rt.errors import UsageError
from glass_rt.labelled.labels import FOLDER
from glass_rt.machine.environment import usable_cores
from glass_train.data.tiers import DEFAULT_TIERS, check_tiers
from glass_train.delivery.policy import UNCHANGED, Policy, policy_from
from glass_train.model.start import IMAGENET, NONE
from glass_train.quick import quick_recipe
from glass_train.recipe import Recipe, default_recipe

MILD = replace(UNCHANGED, horizontal_flip=0.5, jpeg=0.3, quality=(92, 98), subsamplings=("4:2:0", "4:4:4"))
FLIPS = replace(UNCHANGED, horizontal_flip=0.5, vertical_flip=0.5)
DELIVERIES: dict[str, Policy | None] = {"none": None, "flips": FLIPS, "mild": MILD, "web": Policy()}
# Of a run that goes on, these may be others than they were: they do not change the weights.
FREE = ("workers", "max_time", "checkpoint_steps", "tensorboard", "backend", "bundle")


@dataclass(frozen=True)
class TrainOptions:
    """One run. What is None takes the recipe's value for the backbone, or the machine's.

    `max_time`: minutes. `delivery`: one of DELIVERIES, or a JSON file of a policy. `deliveries`: of one image.
    `delivery_values`: what that file held when the run began; `settled` reads it. `bundle`: whether the run ends with
    bundle, test and card.
    """

    data: str
    backbone: str
    labels: str = FOLDER
    architecture: str = "glass"
    weights: str = IMAGENET
    crops: int | None = None
    epochs: int | None = None
    batch: int | None = None
    accumulate: int | None = None
    repeats: int | None = None
    learning_rates: tuple[float, ...] | None = None
    weight_decays: tuple[float, ...] | None = None
    final_learning_rate: float | None = None
    label_smoothing: float | None = None
    dropout: float | None = None
    clip: float | None = None
    ema: float | None = None
    freeze: tuple[str, ...] = ()
    local_first: int | None = None
    crop_loss: float | None = None
    high_pass: bool = False
    batch_norm_momentum: float | None = None
    freeze_statistics: int | None = None
    step_crops: int | None = None
    precision: str | None = None
    patience: int | None = None
    tiers: tuple[str, ...] = DEFAULT_TIERS
    delivery: str = "none"
    deliveries: int = 8
    quick: bool = False
    keep_aside: tuple[str, ...] = ()
    shuffle_labels: bool = False
    align: bool = False
    allow_shortcuts: bool = False
    seed: int = 606
    device: str | None = None
    devices: int = 1
    threads: int | None = None
    workers: int | None = None
    max_time: float | None = None
    checkpoint_steps: int | None = None
    tensorboard: bool = False
    backend: str = "auto"
    bundle: bool = True
    delivery_values: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        find_backbone(self.backbone)
        check_tiers(self.tiers)
        if self.architecture not in ARCHITECTURES:
            raise UsageError(f"architecture: got {self.architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
        for name in ("learning_rates", "weight_decays"):
            if (value := getattr(self, name)) is not None and len(value) != 3:
                raise UsageError(f"{name}: got {len(value)} values; expected three: global, local, head")
        if self.quick and self.weights == NONE:
            raise UsageError("quick: random backbones that stay frozen know nothing; use --weights imagenet or FILE")
        if self.max_time is not None and not self.max_time > 0:
            raise UsageError(f"max-time: got {self.max_time}; expected minutes")
        self.policy()

    @staticmethod
    def shown(field: str) -> str:
        """The argument or option of the command that sets a field."""
        return {"data": "DIR", "delivery_values": "--delivery"}.get(field, f"--{field.replace('_', '-')}")

    @property
    def row(self) -> Backbone:
        """The backbone's row of the table."""
        return find_backbone(self.backbone)

    def recipe(self) -> Recipe:
        """The backbone's recipe with what these options change. Raises UsageError."""
        recipe = default_recipe(self.row, self.architecture, pretrained=self.weights != NONE)
        known = {field.name for field in fields(Recipe)}
        given = {name: value for name, value in vars(self).items() if name in known and value is not None}
        if self.architecture != "glass":
            given |= {"crops": 0, "local_first": 0, "crop_loss": 0, "step_crops": None}
        recipe = replace(recipe, **given)
        if self.devices > recipe.batch:
            raise UsageError(
                f"devices: got {self.devices} for a batch of {recipe.batch} images; each needs one at least"
            )
        return quick_recipe(recipe) if self.quick else recipe

    def policy(self) -> Policy | None:
        """The delivery policy; None: pictures as they are. Raises UsageError."""
        values = self._policy_values()
        return DELIVERIES[self.delivery] if values is None else policy_from(values)

    def _policy_values(self) -> dict[str, Any] | None:
        """Those of a policy's file; None where `delivery` is one of the names. Raises UsageError."""
        if self.delivery in DELIVERIES or self.delivery_values is not None:
            return self.delivery_values
        try:
            values = json.loads(Path(self.delivery).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(
                f"delivery: {self.delivery!r} is none of {', '.join(DELIVERIES)}, and no file of a policy: {error}"
            ) from None
        if not isinstance(values, dict):
            raise UsageError(f"delivery: {self.delivery} holds no mapping of a policy's values")
        return values

    def inputs(self) -> dict[str, Path]:
        """The files and folders that the run reads, by field."""
        words = {"labels": (FOLDER,), "weights": (IMAGENET, NONE), "delivery": tuple(DELIVERIES)}
        named = {name: getattr(self, name) for name in words if getattr(self, name) not in words[name]}
        return {name: Path(path) for name, path in {"data": self.data, **named}.items()}

    def settled(self) -> TrainOptions:
        """The same run from wherever it goes on: absolute paths, timm's tag, the values of a policy's file."""
        paths: dict[str, Any] = {name: str(path.absolute()) for name, path in self.inputs().items()}
        return replace(self, backbone=self.row.name, delivery_values=self._policy_values(), **paths)

    @property
    def loader_threads(self) -> int:
        """Threads that decode and cut."""
        return self.workers or usable_cores()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainOptions:
        """What `to_json` gave."""
        tuples: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**tuples)
