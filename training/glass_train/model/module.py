"""What a step calls: pixels (or kept embeddings) to logits, as one module that several processes can share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from glass_export.backbone import Backbone
from glass_export.model import Glass, normalise
from torch import Tensor, nn

from glass_rt.errors import TrainingError, first_line
from glass_train.model.start import BATCH_NORMS, AnyModel, backbones_of, head_of, roles_of

Outputs = tuple[Tensor | None, Tensor | None]


class Trained(nn.Module):
    """A model with, where the recipe asks for it, an aid: a linear layer that judges each crop by itself.

    The aid teaches the local backbone and is no part of the checkpoint. `embedded`: the inputs are embeddings of
    frozen backbones, float32 (B, D) and (B, K, D), not pixels.
    """

    def __init__(self, model: AnyModel, backbone: Backbone, *, aid: bool = False, embedded: bool = False) -> None:
        super().__init__()
        self.model = model
        self.aid = nn.Linear(backbone.embedding_dim, 2) if aid else None
        self._backbone = backbone
        self._embedded = embedded
        self._frozen: tuple[str, ...] = ()
        self._settled: tuple[str, ...] = ()

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by role; those of the aid count to the head's."""
        found = roles_of(self.model, self._backbone)
        if self.aid is not None:
            found["head"] += self.aid.parameters()
        return found

    def freeze(self, roles: tuple[str, ...]) -> None:
        """Stops the learning of roles; frozen backbones keep their batch statistics too, and drop nothing out."""
        for role, parameters in roles_of(self.model, self._backbone).items():
            for parameter in parameters:
                parameter.requires_grad_(role not in roles)
        self._frozen = roles

    def settle(self, roles: tuple[str, ...]) -> None:
        """The backbones of these roles keep the batch statistics that they have, and learn on."""
        self._settled = roles

    def train(self, mode: bool = True) -> Trained:
        """As any module, but what is frozen stays in inference mode."""
        super().train(mode)
        for role, module in backbones_of(self.model).items():
            if role in self._frozen:
                module.eval()
            elif role in self._settled:
                for part in module.modules():
                    if isinstance(part, BATCH_NORMS):
                        part.eval()
        for module in head_of(self.model, self._backbone):
            module.train(mode and "head" not in self._frozen)
        return self

    def forward(self, global_views: Tensor, crops: Tensor, local_only: bool = False) -> Outputs:
        """Pixels (B, S, S, 3) and (B, K, S, S, 3) -> logits (B, 2) of images, and (B, K, 2) of crops by the aid.

        `local_only`: the logits of images are None; without an aid those of crops are.
        """
        if not isinstance(self.model, Glass):
            return self._resize_only(global_views), None
        local = crops if self._embedded else self._local(crops)
        by_crop = None if self.aid is None else self.aid(local)
        if local_only:
            return None, by_crop
        whole = global_views if self._embedded else self.model.global_model(self._planes(global_views))
        logits, _ = self.model.pool(whole, local)
        return logits, by_crop

    def _resize_only(self, views: Tensor) -> Tensor:
        (head,) = head_of(self.model, self._backbone)
        logits: Tensor = head(views) if self._embedded else self.model(self._planes(views))
        return logits

    def _local(self, crops: Tensor) -> Tensor:
        """(B, K, S, S, 3) -> (B, K, D)"""
        assert isinstance(self.model, Glass), "the caller asked"
        local: Tensor = self.model.local_model(self._planes(crops.flatten(0, 1)))
        return local.reshape(crops.shape[0], crops.shape[1], -1)

    def _planes(self, pixels: Tensor) -> Tensor:
        """(N, S, S, 3) -> normalised (N, 3, S, S), in the layout that convolutions are fastest in."""
        return normalise(pixels, self.model.scaling).contiguous(memory_format=torch.channels_last)


def load_model(model: AnyModel, saved: Mapping[str, Any], path: Path) -> None:
    """Fills `model`, without its aid, from the state of a run that `path` holds. Raises TrainingError."""
    try:
        own = {name.removeprefix("model."): value for name, value in saved["module"].items() if name[:6] == "model."}
        model.load_state_dict(own)
    except (KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{path} is of another model or version: {first_line(error)}") from error
