"""Checkpoints in all their usual forms, matched by name and shape against the models."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from glass_export.backbones import BACKBONES, find_backbone
from glass_export.model import build_model, checkpoint_module
from glass_rt.bundle.manifest import ARCHITECTURES
from glass_rt.errors import CheckpointError, first_line

_NESTED = ("state_dict", "model", "model_state_dict")
_LISTED = 8  # names spelled out per kind of mismatch
_WEIGHTS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_CODE = re.compile(r"(?:GLOBAL|Unsupported global:|class|operand|type) ([\w.]+\.\w+)")
_ADVICE = re.compile(r"weights_only|trust|allowlist|safe_globals", re.IGNORECASE)
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint that fits: its tensors by the names of the model's `state_dict`."""

    tensors: Mapping[str, Tensor]
    backbone: str
    architecture: str


def read_checkpoint(path: Path, backbone: str | None = None, architecture: str | None = None) -> Checkpoint:
    """Reads `.safetensors`, `.pt` or `.pth` and finds the backbone and architecture that its names and shapes fit.

    Accepts the dict nested under `state_dict` or `model`, and `module.` and `_orig_mod.` prefixes. Never unpickles
    code (`weights_only=True`). Raises CheckpointError: unreadable, another model than asked for, or missing,
    unexpected and misshapen names, listed; or values that are no weights: of another type than floating-point numbers
    of 16 bits and more, or not finite.
    """
    tensors = _clean_names(_unnest(_load(path), path))
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    name, kind = _closest(found, backbone, architecture)
    if problems := _differences(found, expected_shapes(name, kind)):
        raise CheckpointError(
            f"{path} does not fit {name} ({kind}){_other_match(found, name, kind)}:\n  " + "\n  ".join(problems)
        )
    for tensor_name, tensor in tensors.items():
        if not _is_counter(tensor_name):
            _check_values(tensor, f"{path}: {tensor_name}")
    return Checkpoint(tensors, name, kind)


def _check_values(tensor: Tensor, what: str) -> None:
    if tensor.dtype not in _WEIGHTS or tensor.layout != torch.strided or tensor.is_meta:
        kind = str(tensor.dtype).removeprefix("torch.") + ("" if tensor.layout == torch.strided else ", sparse")
        raise CheckpointError(
            f"{what} is of type {kind}; weights are dense floating-point numbers of 16 bits and more. Save the trained "
            "model's own state_dict, before it is quantised or pruned"
        )
    if not bool(torch.isfinite(tensor.to(torch.float32)).all()):  # float64 may hold what float32 cannot
        raise CheckpointError(f"{what} holds NaN or infinity in float32; this checkpoint is broken")


@cache
def expected_shapes(backbone: str, architecture: str) -> Shapes:
    """Names and shapes of a model's checkpoint, found without allocating it."""
    with torch.device("meta"):
        module = checkpoint_module(build_model(find_backbone(backbone), architecture))
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads matched tensors into a module; batch counters that a checkpoint may lack stay as they are."""
    outcome = module.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, strict=False)
    assert not outcome.unexpected_keys, "names were matched before"


def tensors_sha256(module: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 bytes in the order of names: the same for every form of file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not _is_counter(name):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().to(torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def _load(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path} (a file, or `imagenet`)")
    if path.stat().st_size == 0:  # so are files of /proc, which may give nothing for ever, or no end
        raise CheckpointError(f"{path} cannot be read as a checkpoint: it is empty")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: out of memory") from error
    except Exception as error:  # torch, zipfile and pickle raise errors of any type for files that are none of theirs
        raise CheckpointError(_refusal(path, error)) from error


def _refusal(path: Path, error: Exception) -> str:
    """Why a file is no checkpoint, in one line; torch's own words for it explain how to run the code in it."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and (code := _CODE.search(text)):
        return (
            f"{path} is not a plain state_dict: it needs code to be unpickled ({code[1]}), which is never run. "
            "Save it again with torch.save(model.state_dict(), ...)"
        )
    if _ADVICE.search(text):
        kind = "TorchScript" if "torchscript" in text.lower() else "no checkpoint, or one that holds code"
        return (
            f"{path} is not a plain state_dict: it is {kind}, which is never run. "
            "Save the model again with torch.save(model.state_dict(), ...)"
        )
    return f"{path} cannot be read as a checkpoint: {first_line(error)}"


def _unnest(value: Any, path: Path) -> dict[str, Tensor]:
    for key in _NESTED:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping) or not value:
        raise CheckpointError(f"{path} holds a {type(value).__name__}; expected a state_dict (names to tensors)")
    if foreign := [str(name) for name, item in value.items() if not isinstance(item, Tensor)]:
        raise CheckpointError(f"{path} holds values that are no tensors: {_some(foreign)}")
    return {str(name): tensor for name, tensor in value.items()}


def _clean_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the traces of torch.compile (anywhere in a name) and of DataParallel (in front)."""
    clean = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    while all(name.startswith("module.") for name in clean):
        clean = {name.removeprefix("module."): tensor for name, tensor in clean.items()}
    return clean


def _closest(found: Shapes, backbone: str | None, architecture: str | None) -> tuple[str, str]:
    """The model with the fewest differences, among those that the caller leaves open."""
    candidates = [
        (name, kind)
        for name in ([find_backbone(backbone).name] if backbone else BACKBONES)
        for kind in ([architecture] if architecture else ARCHITECTURES)
    ]
    return min(candidates, key=lambda candidate: len(_mismatches(found, expected_shapes(*candidate))))


def _other_match(found: Shapes, backbone: str, architecture: str) -> str:
    name, kind = _closest(found, None, None)
    if (name, kind) == (backbone, architecture) or _mismatches(found, expected_shapes(name, kind)):
        return ""
    return f"; it is a checkpoint of {name} ({kind})"


def _mismatches(found: Shapes, expected: Shapes) -> set[str]:
    names = {name for name in found.keys() ^ expected.keys() if not _is_counter(name)}
    return names | {name for name in found.keys() & expected.keys() if found[name] != expected[name]}


def _differences(found: Shapes, expected: Shapes) -> list[str]:
    missing = [name for name in expected if name not in found and not _is_counter(name)]
    unexpected = [name for name in found if name not in expected and not _is_counter(name)]
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


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
