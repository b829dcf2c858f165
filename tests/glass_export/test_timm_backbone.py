"""Backbones of timm: which names stand for one, what is refused before anything heavy, and what checkpoints hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from glass_export import timm_backbone as module_under_test
from glass_export.backbone import IMAGENET_SCALING
from glass_export.backbones import find_backbone
from glass_export.checkpoint import expected_shapes, fill, given_names, read_checkpoint
from glass_export.half.folding import fold_batch_norms
from glass_export.model import build_model, checkpoint_module
from glass_export.portable import ExportOptions, prepare_export
from glass_export.timm_backbone import timm_backbone
from glass_export.untrained import fill_untrained
from safetensors.torch import save_file

from glass_rt.errors import CheckpointError, ExportError, MissingDependency, UsageError
from tests.glass_export import planted_timm
from tests.support import Portables

assert planted_timm, "its models are in timm's registry"
CLIP = (0.48145466, 0.4578275, 0.40821073)
HYBRID = "timm:vit_tiny_r_s16_p8_224"  # it has a `backbone` of its own, a name that trainers wrap models in


@pytest.mark.parametrize(
    ("name", "full", "dim", "mean", "resized"),
    [
        ("timm:test_vit", "timm:test_vit.r160_in1k", 64, (0.5, 0.5, 0.5), True),  # made for 160 px, and no other size
        ("timm:test_convnext", "timm:test_convnext.r160_in1k", 64, (0.5, 0.5, 0.5), False),  # takes any size
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k", 512, IMAGENET_SCALING.mean, False),
        ("timm:mobilenetv4_conv_small", None, 1280, IMAGENET_SCALING.mean, False),  # behind its last pooling
        ("timm:vit_small_patch14_dinov2", None, 384, IMAGENET_SCALING.mean, True),  # made for 518 px
        ("timm:vit_base_patch16_clip_224.openai", "timm:vit_base_patch16_clip_224.openai", 768, CLIP, False),
        ("timm:planted_tied", "timm:planted_tied", 8, IMAGENET_SCALING.mean, False),  # timm knows nothing of it
    ],
)
def test_a_name_stands_for_one_model_with_its_weights(
    name: str, full: str | None, dim: int, mean: tuple[float, ...], resized: bool
) -> None:
    row = find_backbone(name)
    assert row.name.startswith(name) if full is None else row.name == full
    assert (row.embedding_dim, row.library, row.proven) == (dim, "timm", False)
    np.testing.assert_allclose(row.scaling.mean, mean)
    assert timm_backbone(row.name.removeprefix("timm:")).resized is resized
    assert find_backbone(row.name) == row


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:resnet19", r"timm has no model 'resnet19'; near names: .*resnet18"),
        ("timm:", r"timm has no model ''; it has \d+, such as"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "timm has no model 'hf-hub:timm/resnet18.a1_in1k'"),
        ("timm:/etc/passwd", "timm has no model '/etc/passwd'"),
        ("timm:resnet18.b2_in1k", r"no weights 'b2_in1k' of resnet18; their tags: a1_in1k, "),
        ("timm:vit_tiny_patch16_224_in21k", "is called timm:vit_tiny_patch16_224.augreg_in21k now"),
        ("timm:crossvit_tiny_240", r"cannot be run on images of 224x224 pixels \(its own size is 240x240\): "),
        ("timm:planted_branching", r"cannot be run on images of 224x224 pixels \(its own size is unknown\): "),
        ("timm:planted_map", r"gives features of shape \(N, 8, 7, 7\); GLASS needs one row of numbers an image"),
        ("timm:planted_pyramid", "gives a list; GLASS needs"),
    ],
)
def test_what_is_no_backbone_is_refused_in_one_line(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        ExportOptions(name)
    assert "\n" not in str(caught.value)


@pytest.fixture
def without_timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def forget() -> None:
        module_under_test._timm.cache_clear()
        timm_backbone.cache_clear()

    monkeypatch.setitem(sys.modules, "timm", None)
    forget()
    yield
    monkeypatch.undo()
    forget()


@pytest.mark.usefixtures("without_timm")
def test_without_timm_the_extra_is_named() -> None:
    with pytest.raises(MissingDependency, match=r"needs timm, which is not installed: pip install 'glass-rt\[timm\]'"):
        find_backbone("timm:resnet18")
    assert find_backbone("resnet18").library == "torchvision"


def test_imagenet_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    says = (
        r"timm could not download the ImageNet weights of timm:test_convnext.r160_in1k \(.*fetch them elsewhere into "
    )
    with pytest.raises(CheckpointError, match=says) as caught:
        prepare_export(ExportOptions("timm:test_convnext", weights="imagenet"))
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="timm has no weights of planted_tied: --weights FILE"):
        prepare_export(ExportOptions("timm:planted_tied", weights="imagenet"))


@pytest.mark.parametrize("architecture", ["glass", "resize"])
@pytest.mark.parametrize("backbone", ["timm:test_vit", "timm:test_convnext", HYBRID, "timm:efficientformer_l1"])
def test_a_checkpoint_is_read_by_the_name_of_its_backbone(backbone: str, architecture: str, tmp_path: Path) -> None:
    shapes = expected_shapes(backbone, architecture)
    zero = torch.zeros(())
    for number, prefix in enumerate(("", "module.model.")):
        path = tmp_path / f"{number}.pt"
        torch.save({prefix + name: zero.expand(shape) for name, shape in shapes.items()}, path)
        found = read_checkpoint(path, backbone)
        assert (found.backbone, found.architecture) == (find_backbone(backbone).name, architecture)
        assert found.tensors.keys() == shapes.keys()


def test_the_file_of_a_run_tells_its_backbone_and_others_are_asked_for_it(tmp_path: Path) -> None:
    model = build_model(find_backbone("timm:test_convnext"), "resize")
    tensors = checkpoint_module(model).state_dict()
    cases: tuple[tuple[dict[str, object], str | None], ...] = (
        ({"backbone": "timm:test_convnext.r160_in1k"}, None),
        ({"backbone": "timm:nowhere"}, "is of a backbone that cannot be used: backbone: timm has no model 'nowhere'"),
        ({"backbone": ["timm:test_convnext"]}, "name it: --backbone timm:NAME"),
        ({}, "name it: --backbone timm:NAME"),
    )
    for told, expected in cases:
        path = tmp_path / "best.safetensors"
        save_file(tensors, path, {"glass_train": json.dumps(told)})
        if expected is None:
            assert read_checkpoint(path).backbone == told["backbone"]
        else:
            with pytest.raises(CheckpointError, match=expected):
                read_checkpoint(path)
        assert read_checkpoint(path, "timm:test_convnext").architecture == "resize"


@pytest.mark.parametrize(
    ("told", "asked", "says"),
    [
        ("timm:resnet18.a1_in1k", "timm:resnet18", None),  # its default
        (
            "timm:resnet18.fb_swsl_ig1b_ft_in1k",
            "timm:resnet18",
            r"give --backbone timm:resnet18\.fb_swsl_ig1b_ft_in1k$",
        ),
        ("timm:resnet18.a1_in1k", "resnet18", r"is of timm:resnet18\.a1_in1k, and not of resnet18"),
        ("resnet18", "timm:resnet18", "is of resnet18, and not of timm:resnet18.a1_in1k: give --backbone resnet18$"),
        ("timm:no_longer_there", "timm:resnet18", None),
        (None, "timm:resnet18", None),
    ],
)
def test_models_of_the_same_names_and_shapes_are_told_apart_by_the_file(
    told: str | None, asked: str, says: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "best.safetensors"
    tensors = checkpoint_module(build_model(find_backbone("timm:resnet18"), "glass")).state_dict()
    save_file(tensors, path, None if told is None else {"glass_train": json.dumps({"backbone": told})})
    if says is None:
        assert read_checkpoint(path, asked, "glass").backbone == find_backbone(asked).name
    else:
        with pytest.raises(CheckpointError, match=says):
            read_checkpoint(path, asked, "glass")


def test_tables_of_positions_are_the_models_own() -> None:
    model = checkpoint_module(build_model(find_backbone("timm:efficientformer_l1"), "resize"))
    given = given_names("timm:efficientformer_l1", "resize")
    tables = {name: tensor.clone() for name, tensor in model.state_dict().items() if name in given}
    assert any(name.endswith("attention_bias_idxs") for name in tables)
    fill_untrained(model)
    fill(model, {name: torch.ones(tensor.shape) for name, tensor in model.state_dict().items()})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tables[name]) if name in tables else bool((tensor == 1).all()), name


def test_batch_norms_with_their_activation_are_folded() -> None:
    torch.manual_seed(1)
    model = find_backbone("timm:test_efficientnet").build().eval()
    fill_untrained(model)
    folded = fold_batch_norms(model)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    planes = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(folded(planes), model(planes), rtol=1e-4, atol=1e-5)


def test_a_backbone_that_cannot_be_traced_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"timm:planted_untranslatable: global\.fp32\.onnx: PyTorch could not trace"):
        prepare_export(ExportOptions("timm:planted_untranslatable", "resize")).write(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("backbone", ["timm:test_vit", "timm:test_efficientnet"])
def test_graphs_in_half_pass_the_gate(backbone: str, precision: str, portables: Portables) -> None:
    manifest = portables(backbone, "resize", precisions=(precision,)).manifest
    report = manifest.precisions[precision]
    assert 0 < report.embedding < {"fp16": 2e-3, "bf16": 1.6e-2}[precision]
    assert manifest.tools.keys() == {"torch", "timm", "onnx"}
