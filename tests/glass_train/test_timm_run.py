"""`glass-rt train --backbone timm:NAME` from pictures to verdicts, and what is refused before the first picture is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from glass_train.loop.files import BEST, write_weights
from glass_train.options import TrainOptions
from glass_train.run import start_run
from safetensors.torch import load_file

from glass_rt.errors import CheckpointError, ExportError, UsageError
from tests.glass_export import planted_timm
from tests.support import Cli

assert planted_timm, "its models are in timm's registry"
FAST = ("--weights", "none", "--epochs", 1, "--batch", 4, "--crops", 1, "--device", "cpu", "--threads", 1, "--tiers",
        "clean", "--backend", "onnxruntime")  # fmt: skip
WITHOUT = """
import sys
for name in ("torch", "torchvision", "timm", "onnx"):
    sys.modules[name] = None
from glass_rt import Detector
with Detector.open(sys.argv[1]) as detector:
    print(repr(detector.detect(sys.argv[2]).probability_fake))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "full"),
    [
        ("timm:test_vit", "timm:test_vit.r160_in1k"),  # a ViT, for 224 px by timm's own means
        ("timm:test_convnext", "timm:test_convnext.r160_in1k"),  # a ConvNet
    ],
)
def test_from_pictures_to_verdicts_of_two_backends(
    backbone: str, full: str, pictures_to_train_on: Path, cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = cli("train", pictures_to_train_on, "--backbone", backbone, "--output", run, *FAST)
    assert done.returncode == 0, done.stderr
    assert f"trying export and parity gate on {full}" in done.stderr
    manifest, card, record = (
        json.loads((run / name).read_text()) for name in ("bundle/manifest.json", "card.json", "run.json")
    )
    model = manifest["model"]
    assert (model["name"], model["backbone"], model["trained_crops"]) == (full.replace(":", "_"), full, 1)
    assert (model["mean"], model["std"]) == ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])  # timm's, and not ImageNet's
    assert manifest["parity"]["status"] == "passed"
    assert manifest["tools"]["timm"] == record["versions"]["timm"]
    assert card["model"]["backbone"] == full
    assert f"- architecture: glass on {full}, 1 crops" in cli("card", "--engine", run / "bundle").stdout
    assert f"glass on {full}, D = 64" in cli("inspect", "--engine", run / "bundle").stdout
    picture = pictures_to_train_on / "test" / "fake" / "test0.png"
    judged = json.loads(cli("infer", "--engine", run / "bundle", picture, "--json").stdout)
    assert judged["engine"]["backbone"] == full
    alone = subprocess.run(
        [sys.executable, "-c", WITHOUT, run / "bundle", picture], capture_output=True, text=True, timeout=300
    )
    assert alone.stdout.strip() == repr(judged["probability_fake"]), alone.stderr
    on_openvino = cli("build", "--from", run / "bundle", "--backend", "openvino", "--output", tmp_path / "ov")
    assert on_openvino.returncode == 0, on_openvino.stderr
    again = json.loads(cli("infer", "--engine", tmp_path / "ov", picture, "--json").stdout)
    assert again["probability_fake"] == pytest.approx(judged["probability_fake"], abs=1e-4)
    rebuilt = cli(
        "build", "--weights", run / BEST, "--crops", 1, "--backend", "onnxruntime", "--output", tmp_path / "b"
    )
    assert rebuilt.returncode == 0, rebuilt.stderr  # the file says which backbone it is of
    assert (
        json.loads((tmp_path / "b" / "manifest.json").read_text())["model"]["weights"]["sha256"]
        == model["weights"]["sha256"]
    )


@pytest.mark.parametrize(
    ("backbone", "error", "says"),
    [
        ("timm:resnet19", UsageError, "near names: .*resnet18"),
        ("timm:planted_map", UsageError, r"features of shape \(N, 8, 7, 7\)"),
        ("timm:planted_untranslatable", ExportError, "planted_untranslatable cannot be trained here, since no bundle"),
        pytest.param(
            "timm:planted_random", ExportError, "planted_random cannot be trained here.* differ from PyTorch's",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_backbone_without_a_bundle_is_refused_before_the_pictures_are_read(
    backbone: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        start_run(
            TrainOptions(str(tmp_path / "no pictures"), backbone, architecture="resize", weights="none", device="cpu",
                         backend="onnxruntime"),
            tmp_path / "run",
        )  # fmt: skip


def test_without_a_network_the_other_two_ways_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="--weights none starts from random weights, --weights FILE"):
        start_run(TrainOptions(str(tmp_path), "timm:test_vit"), tmp_path / "run")


def test_tensors_under_two_names_are_written_under_both(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    write_weights(tmp_path / BEST, {"first": weight, "second": weight, "third": weight.clone()}, {})
    assert {name: tensor.tolist() for name, tensor in load_file(tmp_path / BEST).items()} == dict.fromkeys(
        ("first", "second", "third"), weight.tolist()
    )
