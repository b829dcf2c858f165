"""The state_dicts in a checkpoint: where trainers put them, and what their libraries add to the names in them.

Sources: torchvision's and timm's training scripts (`model`, `model_ema`; `state_dict`, `state_dict_ema`), Lightning
(`state_dict` with the attribute's name in front), `torch.optim.swa_utils.AveragedModel` (`module.`, `n_averaged`),
ema-pytorch (`ema_model.` and `online_model.` in one dict), DeepSpeed (`module`), `torch.compile` (`_orig_mod.`), FSDP
and activation checkpointing (`_fsdp_wrapped_module.`, `_checkpoint_wrapped_module.`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_DEPTH = 4  # of nesting: {"state": {"model": {"state_dict": {...}}}} has 3
# Of libraries that wrap modules. They are left out wherever they stand in a name.
_LIBRARIES = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module"}
_WRAPPERS = _LIBRARIES | {"model", "net", "network", "backbone"}  # attributes; in front of a name or inside it
_RAW = ("state_dict", "model_state_dict", "model", "module", "net", "network", "backbone", "weights")  # by rank
_AVERAGED = re.compile(r"(^|[^a-z])(ema|swa)|ema_|averag|shadow|polyak", re.IGNORECASE)
_BOOKKEEPING = re.compile(
    r"(^|\.)(num_batches_tracked|n_averaged|num_updates|initted|step|decay|epoch|_extra_state)$"
    r"|(^|\.)(criterion|loss|loss_fn|metrics?)\."
)


@dataclass(frozen=True, eq=False)
class StateDict:
    """Tensors of one model: `where` they lie in the file, and their names without what wrappers add.

    `others` are the tensors beside them that belong to no copy of this model, by their full names.
    """

    where: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    others: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def averaged(self) -> bool:
        """Whether these are averages over steps of training (EMA, SWA), by the names they lie under."""
        return any(_AVERAGED.search(part) for part in self.where)

    @property
    def rank(self) -> tuple[object, ...]:
        """What is taken first where several fit: averages, then the usual names in their order, then any other."""
        known = [_RAW.index(part) if part in _RAW else len(_RAW) for part in self.where]
        return (not self.averaged, len(_RAW) in known and not self.averaged, known)

    @property
    def name(self) -> str:
        """Where they lie, in words."""
        return ".".join(self.where) or "the top level"


def find_tensors(value: Any, where: tuple[str, ...] = ()) -> Iterator[StateDict]:
    """Every dict of tensors in what a checkpoint holds, the outer ones first, under the names as they stand."""
    if not isinstance(value, Mapping) or len(where) > _DEPTH:
        return
    if tensors := {str(name): item for name, item in value.items() if isinstance(item, Tensor)}:
        yield StateDict(where, tensors)
    for name, item in value.items():
        if isinstance(name, str) and "optim" not in name.lower():
            yield from find_tensors(item, (*where, name))


def split_models(found: StateDict, expected: Mapping[str, object]) -> Iterator[StateDict]:
    """The models in one dict of tensors, each with the names that it has under one common prefix.

    `expected` are the names of a model. A name that ends in one of them has the rest of it as its prefix.
    """
    short = {name.replace(".", ""): name for name in expected}  # as latent diffusion's averages have them
    parsed = {name: _parse(name, expected, short) for name in found.tensors}
    prefixes = dict.fromkeys(prefix for prefix, _ in parsed.values() if prefix is not None)
    for prefix in prefixes:
        tensors: dict[str, Tensor] = {}
        others: dict[str, Tensor] = {}
        for full, (its_prefix, name) in parsed.items():
            tensor, below = found.tensors[full], _below(full, prefix)
            if its_prefix == prefix and name not in tensors:
                tensors[name] = tensor
            elif its_prefix is None and below is not None:
                tensors[below] = tensor
            elif its_prefix in (None, prefix):  # else it is another copy's
                others[full] = tensor
        yield StateDict((*found.where, *prefix), tensors, others)


def is_bookkeeping(name: str) -> bool:
    """Whether a tensor of this name is no weight: a counter, or part of a loss or a metric."""
    return _BOOKKEEPING.search(name) is not None


def could_be_weight(tensor: Tensor) -> bool:
    """Whether a tensor that lies beside a model may be a layer's: every layer but a normalisation has a matrix."""
    return tensor.is_floating_point() and tensor.dim() >= 2


def _parse(name: str, expected: Mapping[str, object], short: Mapping[str, str]) -> tuple[tuple[str, ...] | None, str]:
    """A name's prefix and the rest, which is one of `expected`; None and the name where it ends in none of them."""
    parts = [part for part in name.split(".") if part not in _LIBRARIES]
    for start, part in enumerate(parts):
        rest = ".".join(parts[start:])
        if rest in expected:  # with the model's own `backbone` in it, as timm's hybrids have
            return tuple(parts[:start]), rest
        if part in _WRAPPERS:
            continue
        inner = ".".join(part for part in parts[start:] if part not in _WRAPPERS)
        if (match := inner if inner in expected else short.get(inner)) is not None:
            return tuple(parts[:start]), match
        if part in ("global_model", "local_model"):  # a branch of GLASS is no resize-only model
            break
    return None, name


def _below(name: str, prefix: tuple[str, ...]) -> str | None:
    """A name without a prefix in front, None where it has another."""
    parts = tuple(part for part in name.split(".") if part not in _LIBRARIES)
    return ".".join(parts[len(prefix) :]) if parts[: len(prefix)] == prefix else None
