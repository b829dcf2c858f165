"""A checkpoint filled by the golden rule gives the golden numbers of the authors' model, through ONNX Runtime."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from glass_export.backbones import find_backbone
from glass_export.checkpoint import fill, read_checkpoint, tensors_sha256
from glass_export.model import build_model, checkpoint_module
from numpy.typing import NDArray
from safetensors.torch import save_file

from glass_rt.backends.embedding import embed
from glass_rt.bundle.bundle import Bundle
from glass_rt.inference.engines import open_engines
from glass_rt.inference.head import Head
from tests.golden.golden_tensor import golden_tensor
from tests.support import GOLDEN, Bundles

pytestmark = pytest.mark.slow

OUTPUTS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "model_outputs.json").read_text())
NAMES = {"vit_b16": "vit", "resnet50": "resnet", "convnext_tiny": "convnext"}


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def golden(backbone: str) -> dict[str, Any]:
    return OUTPUTS[NAMES[backbone]]


@pytest.fixture(scope="module")
def tensors(golden: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(np.asarray(golden_tensor(name, tuple(s)))) for name, s in golden["state_dict"].items()
    }


@pytest.fixture(scope="module")
def checkpoint(backbone: str, tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / f"{backbone}.safetensors"
    save_file(tensors, path)
    return path


def test_our_model_has_the_authors_names_shapes_and_size(backbone: str, golden: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = build_model(find_backbone(backbone), "glass")
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == golden["state_dict"]
    assert sum(parameter.numel() for parameter in model.parameters()) == golden["parameters"]


def test_engines_give_the_golden_logits_and_attention(
    backbone: str, golden: dict[str, Any], checkpoint: Path, bundles: Bundles
) -> None:
    bundle = bundles(backbone, None, weights=str(checkpoint))
    assert bundle.manifest.model.weights.trained
    for case in golden["cases"]:
        logits, attention = run(bundle, case["num_images"], case["num_crops"], case["seed"])
        np.testing.assert_allclose(logits, case["logits"], atol=1e-4)
        np.testing.assert_allclose(attention, case["attention"], atol=1e-4)


def run(bundle: Bundle, images: int, crops: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The golden inputs through the engines and the head."""
    random = np.random.Generator(np.random.PCG64(seed))
    views = random.integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)
    local_views = random.integers(0, 256, (images * crops, 224, 224, 3), dtype=np.uint8)
    engines = open_engines(bundle)
    head = Head.for_model(bundle.manifest.model, bundle.head())
    global_embeddings = embed(engines["global"], views.astype(np.float32), 64)
    local_embeddings = embed(engines["local"], local_views, 64).reshape(images, crops, -1)
    outputs = [head.judge(*pair) for pair in zip(global_embeddings, local_embeddings, strict=True)]
    return np.stack([output.logits for output in outputs]), np.stack([output.attention for output in outputs])


def write_pt(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def test_every_form_of_a_checkpoint_is_the_same_model(
    backbone: str, tensors: dict[str, torch.Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    """Same tensors by name, so the engines and every number that follows are the same."""
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}
    deep = {name.replace("_model.", "_model._orig_mod."): tensor for name, tensor in tensors.items()}
    parallel = {f"module.{name}": tensor for name, tensor in tensors.items()}
    expected = fingerprint(checkpoint, tensors)
    for number, value in enumerate(
        (tensors, compiled, deep, {"state_dict": parallel, "epoch": 3}, {"model": compiled})
    ):
        path = write_pt(tmp_path / f"form{number}.{('pt', 'pth')[number % 2]}", value)
        found = read_checkpoint(path)
        assert (found.backbone, found.architecture) == (backbone, "glass")
        assert set(found.tensors) == set(tensors)
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())
        path.unlink()
    assert len(expected) == 64


def fingerprint(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """The digest after loading from a file; it must equal that of the tensors themselves."""
    read = read_checkpoint(path)
    model = build_model(find_backbone(read.backbone), read.architecture)
    fill(checkpoint_module(model), read.tensors)
    digest = tensors_sha256(checkpoint_module(model))
    fill(checkpoint_module(model), tensors)
    assert tensors_sha256(checkpoint_module(model)) == digest
    return digest
