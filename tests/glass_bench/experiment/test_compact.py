"""The portable models that ship: small, lossless, and of the checkpoints beside them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from glass_bench.errors import BenchError
from glass_bench.experiment.compact import compact_portable, first_images, narrow_weights
from glass_engines.build import BuildOptions, build_bundle
from glass_export.portable import ExportOptions, export_portable, prepare_export
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from glass_rt.bundle.bundle import REFERENCE, PortableModel, load_tensors

WEIGHTS = Path(__file__).parents[3] / "benchmarks" / "demo_weights"
MODELS = (("glass", "artefact.safetensors", 4), ("resize", "artefact_resize.safetensors", None))


def compiled(portable: PortableModel, target: Path, role: str) -> dict[str, np.ndarray]:
    """The constants of the engine that ONNX Runtime makes of a graph."""
    build_bundle(portable, target, BuildOptions("onnxruntime"))
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(target / f"{role}.onnx").graph.initializer}


def test_both_together_are_under_ten_megabytes() -> None:
    files = [path for name, _, _ in MODELS for path in (WEIGHTS / name).iterdir()]
    assert len(files) == 5 + 4
    assert sum(path.stat().st_size for path in files) < 10e6


@pytest.mark.parametrize(("name", "checkpoint", "crops"), MODELS)
def test_they_are_the_models_of_the_checkpoints_beside_them(name: str, checkpoint: str, crops: int | None) -> None:
    shipped = PortableModel.open(WEIGHTS / name)
    assert shipped.model == prepare_export(ExportOptions(weights=str(WEIGHTS / checkpoint), crops=crops)).model
    assert shipped.model.weights.trained


@pytest.mark.parametrize(("name", "checkpoint", "crops"), MODELS)
def test_no_path_of_a_disk_is_in_them(name: str, checkpoint: str, crops: int | None) -> None:
    for path in (WEIGHTS / name).glob("*.onnx"):
        assert b".py" not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "checkpoint", "crops"), MODELS)
def test_engines_built_from_them_hold_the_weights_of_the_export_bit_by_bit(
    name: str, checkpoint: str, crops: int | None, tmp_path: Path
) -> None:
    exported = export_portable(ExportOptions(weights=str(WEIGHTS / checkpoint), crops=crops), tmp_path / "exported")
    for role in exported.model.roles:
        ours = compiled(PortableModel.open(WEIGHTS / name), tmp_path / f"ours_{role}", role)
        theirs = compiled(exported, tmp_path / f"theirs_{role}", role)
        assert ours.keys() == theirs.keys()
        for tensor, array in theirs.items():
            np.testing.assert_array_equal(ours[tensor], array)


@pytest.mark.slow
def test_the_reference_values_are_the_first_two_images_of_the_export(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    portable = compact_portable(WEIGHTS / "artefact_resize.safetensors", None, tmp_path / "resize")
    assert torch.get_num_threads() == threads
    made, shipped = load_tensors(portable.folder / REFERENCE), load_tensors(WEIGHTS / "resize" / REFERENCE)
    np.testing.assert_array_equal(made["global_views"], shipped["global_views"])
    np.testing.assert_allclose(made["logits"], shipped["logits"], atol=1e-5)


def test_first_images_keep_the_crops_that_are_theirs() -> None:
    reference = {
        "global_views": np.arange(3),
        "crops": np.arange(7),
        "offsets": np.array([0, 4, 5, 7]),
        "global_embeddings": np.arange(3),
        "local_embeddings": np.arange(7),
        "logits": np.arange(3),
    }
    kept = first_images(reference, 2)
    assert {name: len(array) for name, array in kept.items()} == {
        "global_views": 2, "crops": 5, "offsets": 3, "global_embeddings": 2, "local_embeddings": 5, "logits": 2,
    }  # fmt: skip


def test_weights_that_would_not_come_out_bit_equal_are_refused() -> None:
    folded = np.full((1, 1, 1, 1), 0.1, np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixels", "backbone.conv.weight"], ["embedding"])],
        "one convolution",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 1, 2, 2])],
        [numpy_helper.from_array(folded, "backbone.conv.weight")],
    )
    with pytest.raises(BenchError, match=r"conv\.weight: .* bit by bit"):
        narrow_weights(graph, "", {"conv.weight": folded.astype(np.float16)})


def test_the_checkpoints_hold_float16() -> None:
    for _, checkpoint, _ in MODELS:
        tensors = load_file(WEIGHTS / checkpoint)
        assert all(tensor.dtype == np.float16 for tensor in tensors.values() if tensor.ndim > 1)
