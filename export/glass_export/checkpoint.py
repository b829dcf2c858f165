"""Checkpoints in all their usual forms, matched by name and shape against the models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glass_export.backbones import BACKBONES, find_backbone
from glass_export.checkpoint_file import load_checkpoint, told_backbone
from glass_export.foreign_file import shard_hint
from glass_export.model import build_model, checkpoint_module
from glass_export.state_dicts import StateDict, could_be_weight, find_tensors, is_bookkeeping, split_models
from glass_export.timm_backbone import PREFIX
from glass_rt.bundle.manifest import ARCHITECTURES
from glass_rt.errors import CheckpointError, MissingDependency, UsageError
from glass_rt.progress import Stage, silent

_LISTED = 8  # names spelled out per kind of mismatch
_WEIGHTS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_BEFORE = "Save the trained model's own state_dict, before"
_ALTERED = (  # names that tell what was done to a model: the names, what was done, what to do
    (r"qweight|qzeros|weight_scale|_packed|zero_point$|\.SCB$|_amax$", "is quantised", f"{_BEFORE} it is quantised"),
    (r"lora_\w+", "holds adapters", "Merge them into the model, and save its state_dict"),
    (r"weight_(orig|mask)$", "is pruned", "Call torch.nn.utils.prune.remove, and save the state_dict"),
    (r"parametrizations\.|weight_[gv]$", "is parametrised", "Remove the parametrisations, and save the state_dict"),
    (r"flat_param", "is one of FSDP's flattened shards", "Save a full state_dict (StateDictType.FULL_STATE_DICT)"),
)
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint that fits: its tensors by the names of the model's `state_dict`.

    `taken` says where in the file they lie, and `left` where others lie: models that fit as well, and averages that
    would, were they whole.
    """

    tensors: Mapping[str, Tensor]
    backbone: str
    architecture: str
    taken: str = ""
    left: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Match:
    """A state_dict set against one model."""

    found: StateDict
    backbone: str
    architecture: str

    @property
    def shapes(self) -> Shapes:
        return {name: _shape(tensor) for name, tensor in self.found.tensors.items()}

    @property
    def unknown_weights(self) -> list[str]:
        """Tensors beside the model that may be layers of it."""
        return [name for name, tensor in self.found.others.items() if could_be_weight(tensor)]

    @property
    def mismatches(self) -> int:
        expected, given = (
            expected_shapes(self.backbone, self.architecture),
            given_names(self.backbone, self.architecture),
        )
        return len(_mismatches(self.shapes, expected, given)) + len(self.unknown_weights)


def read_checkpoint(
    path: Path, backbone: str | None = None, architecture: str | None = None, stage: Stage = silent
) -> Checkpoint:
    """Reads a checkpoint and finds the backbone and architecture that its names and shapes fit.

    `path` is safetensors, a file of torch.save, or a shard index, told by its content. A backbone of timm is found by
    its name alone, in `backbone` or in the file of a run of `glass-rt train`. The state_dict may lie in dicts,
    up to four deep, and its names may have the prefixes and wrappers of trainers. Of several that fit, averages over
    training (EMA, SWA) come before the last step's weights; `stage` is told which is taken. Never unpickles code
    (`weights_only=True`). Raises CheckpointError: unreadable, another model than asked for, several models between
    which no name decides, or missing, unexpected and misshapen names, listed; or values that are no weights: of another
    type than floating-point numbers of 16 bits and more, or not finite.
    """
    with stage("reading the checkpoint"):
        found = _found(load_checkpoint(path), path)
        backbone = _told_of_timm(path) if backbone is None else _not_another(path, backbone)
        matches = _matches(found, backbone, architecture)
        fitting = sorted((match for match in matches if not match.mismatches), key=lambda match: match.found.rank)
        if not fitting:
            raise CheckpointError(_unfit(path, matches, found, named=backbone is not None))
    best, *others = fitting
    left = (*(other.found.name for other in others), *_partial_averages(best, matches))
    if others and others[0].found.rank == best.found.rank:
        raise CheckpointError(
            f"{path} holds {len(fitting)} models that fit: {_some([best.found.name, *left])}. "
            "Save the one you mean in a file of its own"
        )
    with stage(f"checking the weights{f' of {best.found.name}; left out: {_some(list(left))}' if left else ''}"):
        expected, given = (
            expected_shapes(best.backbone, best.architecture),
            given_names(best.backbone, best.architecture),
        )
        tensors = {name: tensor for name, tensor in best.found.tensors.items() if name in expected}
        for name, tensor in tensors.items():
            if name not in given:
                _check_values(tensor, f"{path}: {name}")
    return Checkpoint(tensors, best.backbone, best.architecture, best.found.name, left)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """A nested tensor has none, and says so with an error; that it is refused is for `_check_values`."""
    return tuple(tensor[0].shape) if tensor.is_nested else tuple(tensor.shape)


def _check_values(tensor: Tensor, what: str) -> None:
    if tensor.is_nested:
        raise CheckpointError(f"{what} is a nested tensor; save the model's own state_dict, of dense weights")
    if tensor.dtype not in _WEIGHTS or tensor.layout != torch.strided or tensor.is_meta:
        kind = str(tensor.dtype).removeprefix("torch.") + ("" if tensor.layout == torch.strided else ", sparse")
        kind += ", without values (meta)" if tensor.is_meta else ""
        raise CheckpointError(
            f"{what} is of type {kind}; weights are dense floating-point numbers of 16 bits and more. Save the trained "
            "model's own state_dict, before it is quantised or pruned"
        )
    if not bool(torch.isfinite(tensor.to(torch.float32)).all()):  # float64 may hold what float32 cannot
        raise CheckpointError(f"{what} holds NaN or infinity in float32; this checkpoint is broken")


def expected_shapes(backbone: str, architecture: str) -> Shapes:
    """Names and shapes of a model's checkpoint, found without allocating it."""
    return {name: tuple(tensor.shape) for name, tensor in _expected(backbone, architecture).items()}


@cache
def given_names(backbone: str, architecture: str) -> frozenset[str]:
    """Names of integers in a model's checkpoint: counters of batches and tables of positions, no weights.

    A checkpoint may lack them, and the model's own are used.
    """
    expected = _expected(backbone, architecture)
    return frozenset(name for name, tensor in expected.items() if not tensor.is_floating_point())


@cache
def _expected(backbone: str, architecture: str) -> Mapping[str, Tensor]:
    with torch.device("meta"):
        module = checkpoint_module(build_model(find_backbone(backbone), architecture))
    return module.state_dict()


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads matched tensors into a module; its integers stay as they are."""
    own = module.state_dict()
    weights = {name: tensor.to(torch.float32) for name, tensor in tensors.items() if own[name].is_floating_point()}
    outcome = module.load_state_dict(weights, strict=False)
    assert not outcome.unexpected_keys, "names were matched before"


def tensors_sha256(module: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 bytes in the order of names: the same for every form of file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if tensor.is_floating_point():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().to(torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def _found(value: Any, path: Path) -> list[StateDict]:
    found = list(find_tensors(value))
    if found:
        return found
    if not isinstance(value, Mapping) or not value:
        raise CheckpointError(f"{path} holds a {type(value).__name__}; expected a state_dict (names to tensors)")
    unnamed = [
        str(name) for name, item in value.items() if isinstance(item, list) and any(isinstance(t, Tensor) for t in item)
    ]
    hint = f"; the tensors in {_some(unnamed)} have no names: save the model's state_dict with them" if unnamed else ""
    raise CheckpointError(f"{path} holds values that are no tensors: {_some([str(name) for name in value])}{hint}")


def _matches(found: list[StateDict], backbone: str | None, architecture: str | None) -> list[_Match]:
    """Every state_dict of a file against every model that the caller leaves open."""
    return [
        _Match(model, name, kind)
        for name in ([find_backbone(backbone).name] if backbone else BACKBONES)
        for kind in ([architecture] if architecture else ARCHITECTURES)
        for outer in found
        for model in _models(outer, expected_shapes(name, kind))
    ]


def _told_of_timm(path: Path) -> str | None:
    """The backbone that the file names, where it is one of timm: the table's are told by names and shapes."""
    told = told_backbone(path)
    if told is None or not told.startswith(PREFIX):
        return None
    try:
        return find_backbone(told).name
    except UsageError as error:
        raise CheckpointError(f"{path} is of a backbone that cannot be used: {error}") from error


def _not_another(path: Path, asked: str) -> str:
    """The backbone that is asked for, unless the file names another: of timm, many have the same names and shapes.

    Their values mean the same only with the same activations and the same scaling of images.
    """
    told, name = told_backbone(path), find_backbone(asked).name
    if told is not None and told != name and (told.startswith(PREFIX) or name.startswith(PREFIX)):
        with suppress(UsageError, MissingDependency):  # a name that timm has no longer
            if find_backbone(told).name != name:
                raise CheckpointError(f"{path} is of {told}, and not of {name}: give --backbone {told}")
    return asked


def _models(found: StateDict, expected: Shapes) -> Iterator[StateDict]:
    yield from list(split_models(found, expected)) or [found]


def _partial_averages(best: _Match, matches: list[_Match]) -> Iterator[str]:
    """Averages of the same model that lack some of its tensors, as those of parameters alone lack its statistics."""
    expected = expected_shapes(best.backbone, best.architecture)
    for match in matches:
        same = (match.backbone, match.architecture) == (best.backbone, best.architecture)
        if same and match.found.averaged and match.mismatches and not expected.keys().isdisjoint(match.found.tensors):
            yield f"{match.found.name} (not whole)"


def _unfit(path: Path, matches: list[_Match], found: list[StateDict], *, named: bool) -> str:
    """Which names keep a checkpoint from fitting the model that is nearest to it."""
    near = min(matches, key=lambda match: match.mismatches)
    where = f" (in {near.found.name})" if near.found.where else ""
    others = [match for match in _matches(found, None, None) if not match.mismatches]
    other = f"; it is a checkpoint of {others[0].backbone} ({others[0].architecture})" if others else ""
    problems = _differences(near)
    unnamed = "" if named or others else f"\n  If its backbone is one of timm, name it: --backbone {PREFIX}NAME"
    return (
        f"{path}{where} does not fit {near.backbone} ({near.architecture}){other}:\n  "
        + "\n  ".join(problems)
        + (_altered(found) or unnamed)
        + shard_hint(path)
    )


def _altered(found: list[StateDict]) -> str:
    """What was done to a model before it was saved, by its names and shapes, and what to save in its place."""
    shapes = {name: tensor.shape for outer in found for name, tensor in outer.tensors.items()}
    if shapes and all(0 in shape for shape in shapes.values()):
        return "\n  Its tensors are placeholders of DeepSpeed. Run the zero_to_fp32.py beside it and name its output"
    for names, what, remedy in _ALTERED:
        if name := next((name for name in shapes if re.search(names, name)), None):
            return f"\n  The model {what} ({name}). {remedy}"
    return ""


def _mismatches(found: Shapes, expected: Shapes, given: frozenset[str]) -> set[str]:
    names = expected.keys() - found.keys() - given
    names |= {name for name in found.keys() - expected.keys() if not is_bookkeeping(name)}
    return names | {name for name in found.keys() & expected.keys() if found[name] != expected[name]}


def _differences(match: _Match) -> list[str]:
    found, expected = match.shapes, expected_shapes(match.backbone, match.architecture)
    given = given_names(match.backbone, match.architecture)
    missing = [name for name in expected if name not in found and name not in given]
    unexpected = [name for name in found if name not in expected and not is_bookkeeping(name)] + match.unknown_weights
    misshapen = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    rows = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    return [f"{len(names)} {kind}: {_some(names)}" for kind, names in rows if names]


def _some(names: list[str]) -> str:
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
