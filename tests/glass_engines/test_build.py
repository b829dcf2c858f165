"""The parity gate catches what it must, and a build that fails writes nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from glass_engines.build import BuildOptions, build_bundle
from onnx import numpy_helper

from glass_rt.bundle.bundle import Bundle, PortableModel
from glass_rt.bundle.folder import write_manifest
from glass_rt.errors import BundleExists, BundleInvalid, MissingDependency, ParityError, UsageError
from tests.support import Bundles, Portables

pytestmark = pytest.mark.slow

Damage = Callable[[onnx.ModelProto], None]
ORT = BuildOptions(backend="onnxruntime")


def weight(model: onnx.ModelProto, shape: tuple[int, ...], skip: int = 0) -> onnx.TensorProto:
    """One of the initialisers of that shape."""
    matching: list[onnx.TensorProto] = [item for item in model.graph.initializer if tuple(item.dims) == shape]
    return matching[skip]


def rewrite(item: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(item))), item.name))


def drop_a_block(model: onnx.ModelProto) -> None:
    """The residual block whose sum is the third: what entered it leaves it unchanged."""
    add = [node for node in model.graph.node if node.op_type == "Add"][2]
    before = add.input[1] if "relu" in add.input[1] else add.input[0]
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == add.output[0]:
                node.input[position] = before


def swap_two_weights(model: onnx.ModelProto) -> None:
    first, second = weight(model, (64, 64, 3, 3)), weight(model, (64, 64, 3, 3), skip=1)
    first.raw_data, second.raw_data = second.raw_data, first.raw_data


def take_bgr_for_rgb(model: onnx.ModelProto) -> None:
    rewrite(weight(model, (64, 3, 7, 7)), lambda kernel: kernel[:, ::-1])


def shift_the_mean(model: onnx.ModelProto) -> None:
    rewrite(weight(model, (1, 3, 1, 1)), lambda mean: mean + np.float32(1.0))


def put_in_nan(model: onnx.ModelProto) -> None:
    rewrite(weight(model, (512, 512, 3, 3)), lambda kernel: np.where(kernel == kernel.max(), np.nan, kernel))


def bake_the_batch_size_in(model: onnx.ModelProto) -> None:
    """Every batch gives one row, as a Reshape to a constant size does."""
    final = model.graph.node[-1]
    assert final.op_type == "Reshape"
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "baked")
    model.graph.initializer.append(shape)
    final.input[1] = "baked"


def fix_the_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@pytest.fixture
def damaged(portables: Portables, tmp_path: Path) -> Callable[[str, Damage], PortableModel]:
    """`damaged(role, damage)`: a portable model with one graph altered, its manifest in order."""

    def make(role: str, damage: Damage) -> PortableModel:
        folder = Path(shutil.copytree(portables("resnet18").folder, tmp_path / "damaged"))
        portable = PortableModel.open(folder)
        path = portable.graph("fp32", role)
        model = onnx.load(path)
        damage(model)
        onnx.save(model, path)
        write_manifest(folder, portable.manifest)
        return PortableModel.open(folder)

    return make


@pytest.mark.parametrize("role", ["global", "local"])
@pytest.mark.parametrize(
    "damage",
    [
        drop_a_block,
        swap_two_weights,
        take_bgr_for_rgb,
        shift_the_mean,
        put_in_nan,
        bake_the_batch_size_in,
        fix_the_input,
    ],
)
def test_the_gate_refuses_an_engine_that_computes_something_else(
    role: str, damage: Damage, damaged: Callable[[str, Damage], PortableModel], tmp_path: Path
) -> None:
    target = tmp_path / "out" / "bundle"
    with pytest.raises(ParityError, match=f"{role} engine"):
        build_bundle(damaged(role, damage), target, ORT)
    assert list(target.parent.iterdir()) == []


def test_the_gate_passes_the_same_file_undamaged(
    damaged: Callable[[str, Damage], PortableModel], tmp_path: Path
) -> None:
    """So that it is the damage that is caught, and not the copying."""
    bundle = build_bundle(damaged("global", lambda model: None), tmp_path / "bundle", ORT)
    parity = bundle.manifest.parity
    assert parity.status == "passed"
    assert parity.embedding is not None
    assert parity.embedding < 1e-5


def test_a_wrong_head_is_caught_by_the_logits(portables: Portables, tmp_path: Path) -> None:
    from glass_rt.bundle.bundle import HEAD, load_tensors, save_tensors

    folder = Path(shutil.copytree(portables("resnet18").folder, tmp_path / "damaged"))
    head = load_tensors(folder / HEAD)
    head["attention.0.weight"] = head["attention.0.weight"][::-1]
    save_tensors(folder / HEAD, head)
    write_manifest(folder, PortableModel.open(portables("resnet18").folder).manifest)
    with pytest.raises(ParityError, match=r"logits differ.*; nothing was written: choose another --backend"):
        build_bundle(PortableModel.open(folder), tmp_path / "bundle", ORT)


def test_a_bundle_builds_another_without_torch_or_checkpoint(bundles: Bundles, tmp_path: Path) -> None:
    bundle = bundles("resnet18")
    again = build_bundle(PortableModel.open(bundle.folder), tmp_path / "again", ORT)
    assert again.manifest.model == bundle.manifest.model
    for name in ("global.onnx", "local.onnx", "head.safetensors"):
        assert again.manifest.files[name] == bundle.manifest.files[name]


def test_a_slim_bundle_runs_but_cannot_be_rebuilt_from(bundles: Bundles, tmp_path: Path) -> None:
    source = PortableModel.open(bundles("resnet18").folder)
    slim = build_bundle(source, tmp_path / "slim", BuildOptions(backend="onnxruntime", slim=True))
    assert sorted(slim.manifest.files) == ["global.onnx", "head.safetensors", "local.onnx", "reference.safetensors"]
    with pytest.raises(BundleInvalid, match="slim bundle"):
        PortableModel.open(slim.folder)


def test_an_altered_portable_model_is_refused(portables: Portables, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(portables("resnet18").folder, tmp_path / "altered"))
    graph = folder / "local.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-10])
    with pytest.raises(BundleInvalid, match=r"local\.fp32\.onnx has"):
        PortableModel.open(folder)


def test_force_replaces_and_its_lack_does_not(bundles: Bundles, tmp_path: Path) -> None:
    source = PortableModel.open(bundles("resnet18").folder)
    target = tmp_path / "bundle"
    first = build_bundle(source, target, ORT)
    with pytest.raises(BundleExists):
        build_bundle(source, target, ORT)
    second = build_bundle(source, target, BuildOptions(backend="onnxruntime", max_batch=8), force=True)
    assert (first.manifest.engine.max_batch, second.manifest.engine.max_batch) == (64, 8)
    assert Bundle.open(target, every_file=True).manifest == second.manifest


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "caffe"}, "backend: got 'caffe'"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "built in fp32, fp16, int8, not in bf16"),
        ({"precision": "fp8"}, "expected one of fp32"),
        ({"max_batch": 0}, "at least one"),
    ],
)
def test_impossible_builds_are_wrong_usage(
    options: dict[str, object], says: str, bundles: Bundles, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        build_bundle(PortableModel.open(bundles("resnet18").folder), tmp_path / "b", BuildOptions(**options))  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_the_manifest_tells_the_whole_story(bundles: Bundles) -> None:
    manifest = json.loads((bundles("resnet18").folder / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["kind"] == "bundle"
    assert manifest["model"]["weights"]["trained"] is False
    assert manifest["engine"] == {
        "backend": "onnxruntime", "precision": "fp32", "device": "cpu", "max_batch": 64,
        "files": {"global": "global.onnx", "local": "local.onnx"}, "profile": None, "requirements": None,
    }  # fmt: skip
    assert {"torch", "torchvision", "onnx", "onnxruntime", "glass-rt"} <= set(manifest["tools"])
    assert set(manifest["files"]) >= {"global.onnx", "local.onnx", "model/manifest.json", "reference.safetensors"}


def test_a_library_that_is_missing_is_known_before_anything_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the export has begun: {name}")

    def missing() -> Any:
        raise MissingDependency("onnxruntime", "cpu", "this engine")

    monkeypatch.setattr("glass_engines.compilers.ort.load_onnxruntime", missing)
    with pytest.raises(MissingDependency):
        build_bundle(Untouched(), tmp_path / "bundle", BuildOptions(backend="onnxruntime"))
    assert list(tmp_path.iterdir()) == []
