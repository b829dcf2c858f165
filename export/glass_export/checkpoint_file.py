"""The files of a checkpoint: read by what they hold, whatever they are called; never a line of code run.

Sources: huggingface.co/docs/safetensors (the format: length, JSON header, tensors); Hugging Face's shard index, a JSON
object whose `weight_map` has the file of every tensor.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from glass_export.foreign_file import BOM, HEAD, is_safetensors, why_foreign, why_json
from glass_rt.errors import CheckpointError, first_line

_CODE = re.compile(r"(?:GLOBAL|Unsupported global:|class|operand|type) ([\w.]+\.\w+)")
_ADVICE = re.compile(r"weights_only|trust|allowlist|safe_globals", re.IGNORECASE)
_LONGEST_INDEX = 64 << 20  # bytes; a model of ten thousand tensors has an index of 1 MB
_SCALAR: Any = np.float64(0).__reduce__()[0]  # what NumPy's scalars are unpickled with
_NUMBERS = ("float16", "float32", "float64", "int32", "int64", "uint8", "uint32", "uint64", "bool")
_ARRAY: Any = np.zeros(0).__reduce__()[0]  # and its arrays
# What trainers store beside the weights, of classes that hold values and run nothing: the arguments of a run, scores,
# histories, the states of generators of random numbers.
_PLAIN_DATA: list[Any] = [
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(name)) for name in _NUMBERS},
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # before NumPy 2, and since
]


def load_checkpoint(path: Path) -> Any:
    """What a checkpoint's file holds: of torch.save any plain value, else a dict of tensors by their names.

    `path` is a file of torch.save, safetensors, or a shard index beside its shards. Raises CheckpointError.
    """
    try:
        if not path.exists():
            raise CheckpointError(f"no such checkpoint: {path} (a file, or `imagenet`)")
        if foreign := why_foreign(path):
            raise CheckpointError(f"{path} {foreign}")
        with path.open("rb") as file:
            head = file.read(HEAD)
        if head.removeprefix(BOM).lstrip()[:1] in (b"{", b"[") and not is_safetensors(head):
            return _load_sharded(path)
        return _load_one(path, head)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error


def told_backbone(path: Path) -> str | None:
    """The backbone that a file of `glass-rt train` names; None for a file that names none, or cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            name = json.loads((file.metadata() or {})["glass_train"])["backbone"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _load_one(path: Path, head: bytes) -> Any:
    try:
        if is_safetensors(head):
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about types that PyTorch will drop, which are refused by name
            with path.open("rb") as file, torch.serialization.safe_globals(_PLAIN_DATA):  # by a name, it goes by suffix
                return torch.load(file, map_location="cpu", weights_only=True)
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


def _load_sharded(index: Path) -> dict[str, Any]:
    """The tensors that an index lists, from the shards in its folder and the folders below."""
    files = defaultdict[str, list[str]](list)
    for name, file in _weight_map(index).items():
        files[file].append(name)
    for file in files:
        inside = PurePosixPath(file)
        if not inside.parts or inside.is_absolute() or ".." in inside.parts or "\\" in file or "\0" in file:
            raise CheckpointError(f"{index} names the shard {file[:80]!r}, which lies outside the index's folder")
    if missing := [file for file in files if not (index.parent / file).is_file()]:
        raise CheckpointError(
            f"{index} names {len(files)} shards, of which {len(missing)} are not beside it: {', '.join(missing[:8])}"
        )
    tensors: dict[str, Any] = {}
    for file, names in files.items():
        tensors |= _of_shard(index.parent / file, names)
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    if index.stat().st_size > _LONGEST_INDEX:
        raise CheckpointError(f"{index} is JSON of more than {_LONGEST_INDEX >> 20} MiB, and no index of a checkpoint")
    text = index.read_bytes()
    try:
        listed = json.loads(text)["weight_map"]
        if listed and all(isinstance(file, str) for file in listed.values()):
            return dict(listed)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        pass
    raise CheckpointError(f"{index} {why_json(text)}")


def _of_shard(path: Path, names: list[str]) -> dict[str, Any]:
    if foreign := why_foreign(path):
        raise CheckpointError(f"the shard {path} {foreign}")
    with path.open("rb") as file:
        shard = _load_one(path, file.read(HEAD))
    held = shard if isinstance(shard, Mapping) else {}
    if absent := [name for name in names if name not in held]:
        raise CheckpointError(f"the shard {path} lacks {len(absent)} tensors of its index, such as {absent[0]}")
    return {name: held[name] for name in names}
