"""The two slow steps of an export, done once a session for the same content.

Tests export the same weights under several names: untrained, from a checkpoint filled by the same rule, fused, by the
library and by the command line. What comes of them is the same graph and the same reference values.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import glass_export.portable
import numpy as np
import onnx
import pytest
import torch
from glass_export.model import Glass, ResizeOnly
from glass_export.onnx_file import OPSET, onnx_from_torch
from glass_export.reference import reference_values
from numpy.typing import NDArray
from torch import Tensor, nn

Values = dict[str, NDArray[np.generic]]


@contextmanager
def exported_once(folder: Path) -> Iterator[None]:
    """Lets the export stage keep its graphs in the folder, and its reference values, while the block runs."""
    once = _Once(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glass_export.portable, "onnx_from_torch", once.onnx_from_torch)
        patch.setattr(glass_export.portable, "reference_values", once.reference_values)
        yield


class _Once:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._values: dict[str, Values] = {}

    def onnx_from_torch(
        self,
        module: nn.Module,
        path: Path,
        inputs: Mapping[str, Tensor],
        outputs: tuple[str, ...],
        dynamic: Mapping[str, dict[int, str]],
        metadata: Mapping[str, str],
        opset: int = OPSET,
    ) -> None:
        """As the export stage's own; of a float32 graph that was traced before, only the metadata is written anew.

        Graphs in half are traced every time: what is widened in them is not all to be seen from outside.
        """
        if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in module.parameters()):
            onnx_from_torch(module, path, inputs, outputs, dynamic, metadata, opset)
            return
        examples = [(name, value.dtype, tuple(value.shape)) for name, value in inputs.items()]
        kept = self._folder / f"{_content(module, examples, outputs, dynamic, opset)}.onnx"
        if not kept.exists():
            onnx_from_torch(module, path, inputs, outputs, dynamic, metadata, opset)
            copy = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(path, copy)
            copy.replace(kept)  # another worker may be reading or writing it
            return
        model = onnx.load(kept)
        del model.metadata_props[:]
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=value)
        onnx.save(model, path)

    def reference_values(self, model: Glass | ResizeOnly, trained_crops: int) -> Values:
        """As the export stage's own."""
        key = _content(model, trained_crops)
        if key not in self._values:
            self._values[key] = reference_values(model, trained_crops)
        return {name: array.copy() for name, array in self._values[key].items()}


def _content(module: nn.Module, *facts: object) -> str:
    """Digest over a module's layers, its tensors and further facts."""
    digest = hashlib.sha256(f"{module!r} {module.training} {facts}".encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
