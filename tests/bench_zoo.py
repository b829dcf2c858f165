"""A zoo of tiny bundles: engines whose answers can be worked out by hand, and engines with planted faults.

The embedding of a view is its mean colour, and redder than the rest means fake. They open in milliseconds and need
no PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from glass_rt.bundle.bundle import HEAD, REFERENCE
from glass_rt.bundle.folder import write_manifest
from glass_rt.bundle.manifest import BundleManifest, Engine, Model, Parity, Weights
from glass_rt.inference.head import Head

SIZE, DIM, CROPS = 224, 4, 2
SLOW_PRODUCTS = 60
Floats = NDArray[np.float32]


def write_bundle(
    folder: Path,
    architecture: str = "glass",
    fault: str | None = None,
    classes: tuple[str, str] = ("fake", "real"),
    *,
    trained: bool = True,
) -> Path:
    """A bundle with `fault` None, `slow`, `wrong` (its engines give other embeddings) or `failing` (on white pixels)."""
    model = Model(
        name=folder.name,
        architecture=architecture,
        backbone="zoo",
        embedding_dim=DIM,
        classes=classes,
        crop_size=SIZE,
        trained_crops=CROPS if architecture == "glass" else 0,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        weights=Weights("zoo.safetensors", f"{architecture}-weights", trained),
    )
    folder.mkdir(parents=True)
    head = _head(architecture)
    save_file(head, folder / HEAD)
    save_file(_reference(model, head), folder / REFERENCE)
    files = {}
    for role in model.roles:
        files[role] = f"{role}.onnx"
        onnx.save(_graph(role, fault), folder / files[role])
    engine = Engine("onnxruntime", "fp32", "cpu", 64, files)
    write_manifest(folder, BundleManifest(model, engine, Parity("passed"), 0.5, {}))
    return folder


def write_picture(path: Path, colour: tuple[int, int, int], width: int = 320, height: int = 256) -> Path:
    """A noisy picture of one colour (RGB), the same for the same name; no pixel is white unless `colour` is bright."""
    generator = np.random.Generator(np.random.PCG64(sum(path.name.encode())))
    pixels = np.clip(np.array(colour) + generator.normal(0, 12, (height, width, 3)), 0, max(240, *colour))
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels.astype(np.uint8)[:, :, ::-1])
    return path


def write_labelled_pictures(folder: Path, count: int = 6) -> Path:
    """`fake/` holds reddish pictures and `real/` bluish ones, alike in size and format."""
    for number in range(count):
        write_picture(folder / "fake" / f"{number}.png", (170 + number, 90, 80))
        write_picture(folder / "real" / f"{number}.png", (80, 100, 160 + number))
    return folder


def _weights() -> Floats:
    """Mean colour in 0..1 (3) -> embedding (4)."""
    return np.array([[1, 0, 0, 0.1], [0, 1, 0, 0.1], [0, 0, 1, 0.1]], np.float32)


def _head(architecture: str) -> dict[str, Floats]:
    redness = np.array([2, -1, -1, 0], np.float32)
    if architecture == "resize":
        return {"classifier.weight": np.stack([redness, -redness]) * 4, "classifier.bias": np.zeros(2, np.float32)}
    both = np.concatenate([redness, redness])
    return {
        "attention.0.weight": np.eye(DIM, dtype=np.float32),
        "attention.0.bias": np.zeros(DIM, np.float32),
        "attention.3.weight": np.ones((1, DIM), np.float32),
        "attention.3.bias": np.zeros(1, np.float32),
        "classifier.0.weight": np.ones(2 * DIM, np.float32),
        "classifier.0.bias": np.zeros(2 * DIM, np.float32),
        "classifier.2.weight": np.stack([both, -both]) * np.float32(0.3),
        "classifier.2.bias": np.zeros(2, np.float32),
    }


def _reference(model: Model, head: dict[str, Floats]) -> dict[str, NDArray[np.generic]]:
    generator = np.random.Generator(np.random.PCG64(5))
    counts = (CROPS, 1, 2) if model.architecture == "glass" else (0, 0, 0)
    tints = np.array([[1, 0.5, 0.5], [0.5, 0.5, 1], [1, 0.6, 0.5]])  # one per image; no rounding turns a verdict
    views = (generator.uniform(0, 200, (3, SIZE, SIZE, 3)) * tints[:, None, None]).astype(np.float32)
    of_crops = tints.repeat(counts, axis=0)[:, None, None]
    crops = (generator.integers(0, 200, (sum(counts), SIZE, SIZE, 3)) * of_crops).astype(np.uint8)
    offsets = np.cumsum([0, *counts])
    embedded = {"global": _embedding(views), "local": _embedding(crops)}
    judge = Head.for_model(model, head).judge
    logits = [
        judge(row, embedded["local"][offsets[i] : offsets[i + 1]]).logits for i, row in enumerate(embedded["global"])
    ]
    return {
        "global_views": views,
        "crops": crops,
        "offsets": offsets.astype(np.int64),
        "global_embeddings": embedded["global"],
        "local_embeddings": embedded["local"],
        "logits": np.stack(logits),
    }


def _embedding(views: NDArray[np.float32] | NDArray[np.uint8]) -> Floats:
    means = views.astype(np.float64).mean(axis=(1, 2)) / 255
    embedding: Floats = (means @ _weights().astype(np.float64)).astype(np.float32)
    return embedding


def _graph(role: str, fault: str | None) -> onnx.ModelProto:
    weights = _weights() / np.float32(255)
    if fault == "wrong":
        weights = weights[::-1].copy()
    constants = {"weights": weights}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["embedding" if fault in (None, "wrong") else "clean"]),
    ]
    if fault == "slow":
        nodes += _slow_nodes(constants)
    if fault == "failing":
        nodes += _failing_nodes(constants)
    kind = TensorProto.FLOAT if role == "global" else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        role,
        [helper.make_tensor_value_info("pixels", kind, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", DIM])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _slow_nodes(constants: dict[str, NDArray[np.generic]]) -> Sequence[onnx.NodeProto]:
    """Products of a large matrix made from the pixels, whose result counts for nothing."""
    constants |= {
        "shape": np.array([336, -1], np.int64),
        "first": np.array([336], np.int64),
        "zero": np.array([0], np.int64),
        "axis": np.array([1], np.int64),
        "nothing": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["float", "shape"], ["wide"]),
        helper.make_node("Slice", ["wide", "zero", "first", "axis"], ["square0"]),
    ]
    for i in range(SLOW_PRODUCTS):
        nodes.append(helper.make_node("MatMul", [f"square{i}", "square0"], [f"product{i}"]))
        nodes.append(helper.make_node("Tanh", [f"product{i}"], [f"square{i + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"square{SLOW_PRODUCTS}"], ["useless"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["useless", "nothing"], ["ignored"]))
    nodes.append(helper.make_node("Add", ["clean", "ignored"], ["embedding"]))
    return nodes


def _failing_nodes(constants: dict[str, NDArray[np.generic]]) -> Sequence[onnx.NodeProto]:
    """Looks up a table of 250 entries by the brightest pixel: beyond its end for white."""
    constants |= {"table": np.zeros(250, np.float32)}
    return [
        helper.make_node("ReduceMax", ["float"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["looked_up"]),
        helper.make_node("Add", ["clean", "looked_up"], ["embedding"]),
    ]
