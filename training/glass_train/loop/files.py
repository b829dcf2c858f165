"""The files of a run's state: each is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import save
from torch import Tensor

from glass_rt.errors import TrainingError, first_line

LAST, BEST = "last.pt", "best.safetensors"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a run's state. Raises TrainingError where the disk is full; what was there before stays then."""
    _replace(path, lambda file: torch.save(dict(state), file))


def read_checkpoint_file(path: Path) -> dict[str, Any]:
    """A state that `write_checkpoint` wrote. Raises TrainingError where it is none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"a {type(state).__name__}")
    except Exception as error:  # torch, zipfile and pickle raise errors of any type
        raise TrainingError(f"{path} is no checkpoint of a run: {first_line(error)}") from error
    return state


def write_weights(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Writes weights as safetensors with `facts` as their metadata; raises as `write_checkpoint` does."""
    on_cpu: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        shared = any(whole.data_ptr() == other.data_ptr() for other in on_cpu.values())
        on_cpu[name] = whole.clone() if shared else whole  # safetensors takes no tensor under two names
    _replace(path, lambda file: file.write(save(on_cpu, dict(facts))))


def _replace(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    temporary = path.with_name(f".{path.name}.partial")  # one a run: the next one overwrites what a kill left
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's, of a writer that cannot write
        temporary.unlink(missing_ok=True)
        kept = f"; the one before is whole: {path}" if path.exists() else ""
        raise TrainingError(
            f"the checkpoint cannot be written ({first_line(error)}){kept}. Free space on that disk, then go on with "
            "--resume"
        ) from error
