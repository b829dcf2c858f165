"""Graphs in half with INT8 products: which products, how they are spelled, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from glass_engines.int8.int8_products import float32_twin, int8_products, with_int8_products
from glass_engines.int8.quantise import symmetric_from_onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from glass_rt.backends import open_backend

pytest.importorskip("nncf", reason="NNCF is not installed: pip install 'glass-rt[int8]'")

SIZE, WIDTH = 8, 16
VIEWS = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
# Node by node: what it computes, and whether its product becomes INT8. The next kind of product is a row.
NODES: tuple[tuple[str, str, str, dict[str, Any], bool], ...] = (
    ("Cast", "pixels", "floats", {"to": TensorProto.FLOAT}, False),
    ("Transpose", "floats", "planes", {"perm": [0, 3, 1, 2]}, False),
    ("Cast", "planes", "halves", {"to": TensorProto.FLOAT16}, False),
    ("Conv", "halves stem stem_bias", "patches", {}, False),  # reads the pixels
    ("Relu", "patches", "positive", {}, False),
    ("Conv", "positive depthwise", "depth", {"group": WIDTH, "pads": [1, 1, 1, 1]}, False),
    ("Conv", "depth pointwise pointwise_bias", "mixed", {}, True),
    ("Relu", "mixed", "active", {}, False),
    ("ReduceMean", "active image_axes", "squeezed", {"keepdims": 1}, False),
    ("Conv", "squeezed squeeze", "excited", {}, False),  # of an average
    ("Sigmoid", "excited", "gates", {}, False),
    ("Mul", "gates active", "gated", {}, False),
    ("Conv", "gated grouped", "groups", {"group": 2}, False),
    ("Reshape", "groups rows_shape", "rows", {}, False),
    ("Transpose", "rows", "tokens", {"perm": [0, 2, 1]}, False),
    ("MatMul", "tokens query", "queries", {}, True),
    ("MatMul", "tokens key", "keys", {}, True),
    ("Transpose", "keys", "keys_across", {"perm": [0, 2, 1]}, False),
    ("MatMul", "queries keys_across", "scores", {}, False),  # of two activations
    ("Cast", "scores", "wide_scores", {"to": TensorProto.FLOAT}, False),
    ("Softmax", "wide_scores", "attention", {"axis": -1}, False),
    ("Cast", "attention", "narrow_attention", {"to": TensorProto.FLOAT16}, False),
    ("MatMul", "narrow_attention tokens", "attended", {}, False),
    ("Cast", "attended", "wide", {"to": TensorProto.FLOAT}, False),
    ("MatMul", "wide widened", "last", {}, True),  # of a unit that the range probe left in float32
    ("LayerNormalization", "last gain offset", "normed", {"axis": -1}, False),
    ("ReduceMean", "normed mean_axis", "embedding", {"keepdims": 0}, False),
)
INT8 = tuple(f"node_{output}" for _, _, output, _, narrow in NODES if narrow)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph of every kind of product."""
    random = np.random.default_rng(1)

    def weights(*shape: int) -> NDArray[np.float16]:
        values: NDArray[np.float64] = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return values.astype(np.float16)

    values: dict[str, NDArray[Any]] = {
        "stem": weights(WIDTH, 3, 1, 1) / 64, "stem_bias": weights(WIDTH), "depthwise": weights(WIDTH, 1, 3, 3),
        "pointwise": weights(WIDTH, WIDTH, 1, 1), "pointwise_bias": weights(WIDTH),
        "grouped": weights(WIDTH, WIDTH // 2, 1, 1), "query": weights(WIDTH, WIDTH), "key": weights(WIDTH, WIDTH),
        "squeeze": weights(WIDTH, WIDTH, 1, 1), "image_axes": np.array([2, 3]), "widened": weights(WIDTH, WIDTH).astype(np.float32), "gain": np.ones(WIDTH, np.float32),
        "offset": np.zeros(WIDTH, np.float32), "rows_shape": np.array([0, WIDTH, SIZE * SIZE]),
        "mean_axis": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node(kind, inputs.split(), [output], name=f"node_{output}", **attributes)
        for kind, inputs, output, attributes, _ in NODES
    ]
    graph = helper.make_graph(
        nodes, "every kind of product",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("half") / "local.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def narrow(half: Path) -> Path:
    path = half.with_name("int8.onnx")
    symmetric_from_onnx(half, VIEWS, path)
    return path


def values_of(model: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def embeddings(graph: Path) -> NDArray[Any]:
    return open_backend("onnxruntime", graph).run({"pixels": VIEWS})["embedding"]


def test_products_with_weights_become_int8_but_the_first_and_grouped_ones(half: Path) -> None:
    assert int8_products(onnx.load(half).graph) == INT8


def test_every_other_node_stays_as_it_was(half: Path, narrow: Path) -> None:
    before = {node.name: node for node in onnx.load(half).graph.node}
    after = {node.name: node for node in onnx.load(narrow).graph.node}
    assert {name for name, node in before.items() if after[name] != node} == set(INT8)
    assert {node.op_type for name, node in after.items() if name not in before} == {
        "Cast", "QuantizeLinear", "DequantizeLinear",
    }  # fmt: skip


def test_each_product_reads_int8_on_both_sides_by_symmetric_float32_scales(narrow: Path) -> None:
    model = onnx.load(narrow)
    onnx.checker.check_model(model, full_check=True)
    values = values_of(model)
    makers = {output: node for node in model.graph.node for output in node.output}
    nodes = {node.name: node for node in model.graph.node}
    for name in INT8:
        activations, weights = (makers[input_] for input_ in nodes[name].input[:2])
        assert makers[activations.input[0]].op_type == "QuantizeLinear"
        assert values[weights.input[0]].dtype == np.int8
        for dequantise, scales in ((activations, ()), (weights, (WIDTH,))):
            assert dequantise.op_type == "DequantizeLinear"
            scale, zero = (values[part] for part in dequantise.input[1:])
            assert (scale.dtype.name, scale.shape) == ("float32", scales)
            assert zero.dtype.name == "int8"
            assert not zero.any()


def test_products_that_read_the_same_share_its_quantiser(narrow: Path) -> None:
    nodes = {node.name: node for node in onnx.load(narrow).graph.node}
    assert nodes["node_queries"].input[0] == nodes["node_keys"].input[0]
    assert sum(node.op_type == "QuantizeLinear" for node in nodes.values()) == len(INT8) - 1


def test_weights_that_are_int8_now_are_not_kept_in_half_too(half: Path, narrow: Path) -> None:
    gone = set(values_of(onnx.load(half))) - set(values_of(onnx.load(narrow)))
    assert gone == {"pointwise", "pointwise_bias", "query", "key", "widened"}


def test_the_range_covers_what_was_seen_though_it_is_never_negative(half: Path, narrow: Path) -> None:
    """Of unsigned values NNCF learns a range of 255 steps, and int8 has 127."""
    values = values_of(onnx.load(narrow))
    exposed = onnx.load(half)
    exposed.graph.output.extend([helper.make_tensor_value_info("tokens", TensorProto.FLOAT16, None)])
    import onnxruntime

    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    (tokens,) = session.run(["tokens"], {"pixels": VIEWS})
    (scale,) = [value for name, value in values.items() if name.startswith("tokens.") and name.endswith(".scale")]
    largest = np.abs(tokens.astype(np.float32)).max()
    assert 0.7 * largest < 127 * float(scale) < 1.3 * largest


def test_it_computes_nearly_the_same(half: Path, narrow: Path) -> None:
    exact, found = embeddings(half), embeddings(narrow)
    distance = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-4 < distance < 0.1, "INT8 is not exact, and not far off"


def test_the_twin_is_the_same_graph_without_half(half: Path) -> None:
    model = onnx.load(half)
    twin = float32_twin(model)
    assert [(node.name, node.op_type) for node in twin.graph.node] == [
        (node.name, node.op_type) for node in model.graph.node
    ]
    assert {value.dtype.kind for value in values_of(twin).values()} == {"f", "i"}
    assert not [name for name, value in values_of(twin).items() if value.dtype == np.float16]
    onnx.checker.check_model(twin, full_check=True)
    assert values_of(model)["query"].dtype == np.float16, "the graph itself is not touched"


@pytest.mark.parametrize(
    ("changed", "value", "message"),
    [
        ("zero_point_tokens", 5, "range of its activations is not symmetric"),
        ("zero_point_query", 1, "not int8 with a scale for each channel"),
        (None, None, "was not quantised"),
    ],
)
def test_what_tensorrt_would_not_take_is_refused(half: Path, changed: str | None, value: int, message: str) -> None:
    """What NNCF might learn, spelled by hand: a quantised twin of the graph's last lines."""
    model = onnx.load(half)
    learnt = learnt_by_hand(model, changed, value)
    with pytest.raises(ValueError, match=f"node_queries: .*{message}"):
        with_int8_products(model, learnt, ("node_queries",))


def learnt_by_hand(model: ModelProto, changed: str | None, value: int) -> ModelProto:
    twin = float32_twin(model)
    (product,) = [node for node in twin.graph.node if node.name == "node_queries"]
    if changed is None:
        return twin
    added: dict[str, NDArray[Any]] = {
        "q_tokens": np.zeros((1, SIZE * SIZE, WIDTH), np.int8), "scale_tokens": np.array(0.1, np.float32),
        "zero_point_tokens": np.array(0, np.int8), "q_query": np.zeros((WIDTH, WIDTH), np.int8),
        "scale_query": np.full(WIDTH, 0.1, np.float32), "zero_point_query": np.zeros(WIDTH, np.int8),
    }  # fmt: skip
    added[changed] = np.full_like(added[changed], value)
    twin.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in added.items())
    for index, name in enumerate(("tokens", "query")):
        inputs = [f"q_{name}", f"scale_{name}", f"zero_point_{name}"]
        twin.graph.node.append(helper.make_node("DequantizeLinear", inputs, [f"dq_{name}"], name=f"dq_{name}"))
        product.input[index] = f"dq_{name}"
    return twin
