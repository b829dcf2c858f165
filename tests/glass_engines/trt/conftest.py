"""FP16 graphs of the backbones, each exported once per run, and portable models of the smallest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from glass_export.backbones import find_backbone
from glass_export.graphs import PixelsToEmbedding
from glass_export.half.precision import narrowed, prepared
from glass_export.model import CROP_SIZE, ResizeOnly, build_model
from glass_export.onnx_file import onnx_from_torch

from glass_rt.bundle.bundle import PortableModel
from tests.support import Portables

GraphOf = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def graph_of(tmp_path_factory: pytest.TempPathFactory) -> GraphOf:
    """`graph_of(backbone, role)`: the FP16 graph for role `global`, `local` or `resize`, with start weights."""
    folder = tmp_path_factory.mktemp("graphs")

    @cache
    def embedder(backbone: str, architecture: str) -> PixelsToEmbedding:
        torch.manual_seed(0)
        model = build_model(find_backbone(backbone), architecture)
        module = model.split()[0] if isinstance(model, ResizeOnly) else model.global_model
        return narrowed(prepared(module), torch.float16)

    @cache
    def graph(backbone: str, role: str) -> Path:
        path = folder / f"{backbone}.{role}.fp16.onnx"
        dtype = torch.uint8 if role == "local" else torch.float32
        example = torch.zeros((2, CROP_SIZE, CROP_SIZE, 3), dtype=dtype)
        module = embedder(backbone, "resize" if role == "resize" else "glass")
        onnx_from_torch(module, path, {"pixels": example}, ("embedding",), {"pixels": {0: "N"}}, {})
        return path

    return graph


@pytest.fixture(scope="session")
def small_model(portables: Portables) -> PortableModel:
    """mobilenet_v3_small in fp16."""
    return portables("mobilenet_v3_small", precisions=("fp16",))


@pytest.fixture(scope="session")
def small_resize_model(portables: Portables) -> PortableModel:
    """The resize-only architecture in fp32 and bf16."""
    return portables("mobilenet_v3_small", "resize", precisions=("fp32", "bf16"))
