"""Portable models: graphs with the fewest nodes that say what is meant, dynamic in their batch, equal to PyTorch."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from glass_export.model import Glass, normalise
from glass_export.portable import ExportOptions, export_portable, prepare_export
from glass_export.untrained import untrained_tensor

from glass_rt.bundle.bundle import PortableModel
from glass_rt.errors import BundleExists, CheckpointError, UsageError
from tests.golden.golden_tensor import golden_tensor
from tests.support import Portables, TorchModels

BIG = ("vit_b16", "resnet50", "convnext_tiny")


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def node_counts(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


@pytest.mark.parametrize("shape", [(), (7,), (4, 3, 2, 2)])
@pytest.mark.parametrize("leaf", ["weight", "bias", "running_mean", "running_var", "layer_scale", "class_token"])
def test_the_seeded_rule_is_the_golden_rule(leaf: str, shape: tuple[int, ...]) -> None:
    if leaf == "weight" and shape == ():
        pytest.skip("no layer has a scalar weight")
    name = f"global_model.block.{leaf}"
    np.testing.assert_array_equal(untrained_tensor(name, shape).numpy(), golden_tensor(name, shape))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BIG)
def test_the_batch_is_free_and_every_size_equals_torch(
    backbone: str, portables: Portables, torch_models: TorchModels
) -> None:
    portable = portables(backbone)
    model = torch_models(backbone)
    assert isinstance(model, Glass)
    random = np.random.default_rng(1)
    crops = random.integers(0, 256, (64, 224, 224, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = model.local_model(normalise(torch.from_numpy(crops[:3]))).numpy()
    local = session(portable.graph("fp32", "local"))
    for count in (1, 2, 3, 64):
        found = local.run(None, {"pixels": crops[:count]})[0]
        assert found.shape == (count, portable.model.embedding_dim)
        np.testing.assert_allclose(found[:3], expected[:count], rtol=2e-4, atol=2e-4 * np.abs(expected).max())
    views = crops[:3].astype(np.float32) + 0.25
    with torch.no_grad():
        expected = model.global_model(normalise(torch.from_numpy(views))).numpy()
    found = session(portable.graph("fp32", "global")).run(None, {"pixels": views})[0]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "most", "exactly"),
    [
        ("vit_b16", 370, {"LayerNormalization": 25, "Softmax": 12, "Gelu": 12, "Conv": 1, "MatMul": 96}),
        ("resnet50", 130, {"Conv": 53, "ReduceMean": 1, "BatchNormalization": 0}),
        ("convnext_tiny", 230, {"LayerNormalization": 22, "Gelu": 18, "Conv": 58, "MatMul": 0}),
        ("resnet18", 60, {"Conv": 20}),
        ("mobilenet_v3_small", 130, {"Conv": 52, "HardSigmoid": 9, "Shape": 0}),
    ],
)
def test_graphs_have_the_fewest_nodes(backbone: str, most: int, exactly: dict[str, int], portables: Portables) -> None:
    for role in ("global", "local"):
        counts = node_counts(portables(backbone).graph("fp32", role))
        assert sum(counts.values()) <= most, counts
        assert {name: counts[name] for name in exactly} == exactly


@pytest.mark.slow
def test_each_graph_is_one_file_with_its_facts_inside(portables: Portables) -> None:
    portable = portables("resnet18")
    assert sorted(path.name for path in portable.folder.iterdir()) == [
        "global.fp32.onnx", "head.safetensors", "local.fp32.onnx", "manifest.json", "reference.safetensors",
    ]  # fmt: skip
    model = onnx.load(portable.graph("fp32", "local"))
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["glass_rt.role"] == "local"
    assert facts["glass_rt.weights_sha256"] == portable.model.weights.sha256
    assert facts["glass_rt.trained"] == "false"
    (dimensions,) = [value.type.tensor_type.shape.dim for value in model.graph.input]
    assert [d.dim_param or d.dim_value for d in dimensions] == ["N", 224, 224, 3]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny"])
def test_the_fused_graph_equals_torch_at_several_sizes(
    backbone: str, torch_models: TorchModels, tmp_path: Path
) -> None:
    portable = export_portable(ExportOptions(backbone, fused=True), tmp_path / "model")
    fused = session(portable.folder / "glass.onnx")
    model = torch_models(backbone)
    random = np.random.default_rng(2)
    for images, crops in ((1, 1), (1, 4), (2, 1), (3, 5)):
        views = random.uniform(0, 255, (images, 224, 224, 3)).astype(np.float32)
        windows = random.integers(0, 256, (images, crops, 224, 224, 3), dtype=np.uint8)
        with torch.no_grad():
            logits, attention = model(normalise(torch.from_numpy(views)), normalise(torch.from_numpy(windows)))
        found = dict(
            zip(("probabilities", "attention"), fused.run(None, {"global": views, "crops": windows}), strict=True)
        )
        np.testing.assert_allclose(found["probabilities"], torch.softmax(logits, 1).numpy(), atol=1e-5)
        np.testing.assert_allclose(found["attention"], attention.numpy(), atol=1e-5)


def test_imagenet_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(CheckpointError, match="could not download the ImageNet weights of resnet18"):
        prepare_export(ExportOptions("resnet18", weights="imagenet"))


def test_classes_in_the_other_order_are_recorded(tmp_path: Path) -> None:
    prepared = prepare_export(ExportOptions("mobilenet_v3_small", classes=("real", "fake"), crops=7))
    assert prepared.model.fake_index == 1
    assert prepared.model.trained_crops == 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "backbone: needed"),
        ({"backbone": "vgg16"}, "expected one of vit_b16"),
        ({"backbone": "resnet18", "classes": ("cat", "dog")}, "which of the checkpoint's two logits"),
        ({"backbone": "resnet18", "architecture": "cnn"}, "expected one of glass, resize"),
        ({"backbone": "resnet18", "crops": 0}, "at least one"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ExportOptions(**options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_existing_folder_is_kept(portables: Portables) -> None:
    portable = portables("resnet18")
    with pytest.raises(BundleExists, match="--force"):
        export_portable(ExportOptions("resnet18"), portable.folder)
    assert PortableModel.open(portable.folder).model == portable.model
