"""A graph in half with INT8 products, as TensorRT wants them spelled.

TensorRT reads Q/DQ nodes from the graph and takes only ranges that are symmetric about 0 and signed. So each product
stands after a QuantizeLinear and a DequantizeLinear of its activations (one scale, zero point 0) and a DequantizeLinear
of its weights (int8, a scale for each output channel), between casts: scales and sums are float32, whatever the graph
around them is in. All else stays as it was.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

_HALF, _FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
# What a library may move a quantiser past: these hand values on as they are.
_PASSING = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "MaxPool", "Identity")
_AVERAGES = ("ReduceMean", "GlobalAveragePool")
_SIGNED_OF_UNSIGNED = 255 / 127  # int8 has 127 steps for a range that uint8 has 255 for


def int8_products(graph: GraphProto) -> tuple[str, ...]:
    """Names of the products that become INT8: convolutions and matrix products with weights, but for three kinds.

    Depthwise and other grouped convolutions hardly compute, and lose much; so do products of averages over an image,
    which weigh whole channels (squeeze and excitation). The first product reads the pixels: a step of its symmetric
    range would be more than one level of a pixel, and a trace of a generator may be no more than that. Products of two
    activations, attention's, have no weights: they stay half, fused with their softmax.
    """
    weights = {tensor.name for tensor in graph.initializer}
    behind = set[str]()  # tensors that come of a product
    averages = set[str]()
    found = []
    for node in graph.node:
        read = [name for name in node.input if name not in weights]
        product = node.op_type in ("Conv", "MatMul") and node.input[1] in weights
        if node.op_type in _AVERAGES or (read and averages.issuperset(read)):
            averages.update(node.output)
        elif product and node.input[0] in behind and _attribute(node, "group", 1) == 1:
            found.append(node.name)
        if product or behind.intersection(read):
            behind.update(node.output)
    return tuple(found)


def float32_twin(model: ModelProto) -> ModelProto:
    """The graph with float32 in the place of half everywhere, nodes and tensors by their names; weights are copied."""
    twin = ModelProto()
    twin.CopyFrom(model)
    for tensor in twin.graph.initializer:
        _widen(tensor)
    for node in twin.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == _HALF:
                attribute.i = _FLOAT
            if attribute.type == onnx.AttributeProto.TENSOR:
                _widen(attribute.t)
    del twin.graph.value_info[:]
    return twin


def with_int8_products(half: ModelProto, learnt: ModelProto, products: Collection[str]) -> ModelProto:
    """The graph `half` with those products in INT8, by the scales and weights of its quantised twin `learnt`.

    Raises ValueError where `learnt` has no symmetric range of int8 or uint8 for one of them.
    """
    rewritten = _Rewritten(half, _Ranges(learnt.graph))
    for node in half.graph.node:
        if node.name in products:
            rewritten.add_int8(node)
        else:
            rewritten.nodes.append(node)
    return rewritten.model()


class _Ranges:
    """The scales of a quantised graph, by the product that they are of."""

    def __init__(self, graph: GraphProto) -> None:
        self._nodes = {node.name: node for node in graph.node}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._values = {tensor.name: tensor for tensor in graph.initializer}

    def of_activations(self, product: str) -> np.float32:
        """The scale of what a product reads."""
        dequantise = self._dequantise(product, 0)
        scale = self._value(dequantise.input[1])
        zero = self._value(dequantise.input[2])
        if zero.any() or scale.size != 1 or zero.dtype not in (np.int8, np.uint8):
            raise ValueError(f"{product}: the range of its activations is not symmetric")
        signed: np.float32 = np.float32(float(scale.item()) * (_SIGNED_OF_UNSIGNED if zero.dtype == np.uint8 else 1))
        return signed

    def of_weights(self, product: str) -> tuple[NDArray[np.int8], NDArray[np.float32], int]:
        """Weights, a scale for each channel, and the axis of the channels."""
        dequantise = self._dequantise(product, 1)
        weights, scales, zeros = (self._value(name) for name in dequantise.input)
        if zeros.any() or weights.dtype != np.int8 or scales.ndim != 1:
            raise ValueError(f"{product}: its weights are not int8 with a scale for each channel")
        return weights, scales.astype(np.float32), _attribute(dequantise, "axis", 1)

    def _dequantise(self, product: str, index: int) -> NodeProto:
        found = self._makers.get(self._nodes[product].input[index])
        while found is not None and found.op_type in _PASSING:
            found = self._makers.get(found.input[0])
        if found is None or found.op_type != _DQ:
            raise ValueError(f"{product}: input {index} was not quantised")
        dequantise: NodeProto = found
        return dequantise

    def _value(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._values[name])


@dataclass(eq=False)
class _Rewritten:
    """A graph in the making: `nodes` in order, and what they read in `tensors` beside the original's."""

    original: ModelProto
    ranges: _Ranges
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._weights = {tensor.name: tensor for tensor in self.original.graph.initializer}

    def add_int8(self, product: NodeProto) -> None:
        """Adds the product with its quantisers, dequantisers and casts."""
        weights = self._weights[product.input[1]]
        half = weights.data_type == _HALF
        inputs = [self._quantised(product, half), self._dequantised_weights(product)]
        inputs += [self._widened(name) for name in product.input[2:]]
        added = NodeProto()
        added.CopyFrom(product)
        del added.input[:], added.output[:]
        added.input.extend(inputs)
        result = product.output[0]
        added.output.append(f"{result}.float32" if half else result)
        self.nodes.append(added)
        if half:
            self._add("Cast", [added.output[0]], result, to=_HALF)

    def _quantised(self, product: NodeProto, half: bool) -> str:
        """Activations in int8 and back; products that read the same with the same range share them."""
        values, scale = product.input[0], self.ranges.of_activations(product.name)
        name = f"{values}.{scale.tobytes().hex()}"
        if name not in self._made:
            self._made.add(name)
            if half:
                self._add("Cast", [values], f"{name}.float32", to=_FLOAT)
                values = f"{name}.float32"
            self.tensors += [
                numpy_helper.from_array(np.array(scale), f"{name}.scale"),
                numpy_helper.from_array(np.array(0, np.int8), f"{name}.zero"),
            ]
            self._add(_Q, [values, f"{name}.scale", f"{name}.zero"], f"{name}.int8")
            self._add(_DQ, [f"{name}.int8", f"{name}.scale", f"{name}.zero"], name)
        return name

    def _dequantised_weights(self, product: NodeProto) -> str:
        name = f"{product.input[1]}.of.{product.name}"
        weights, scales, axis = self.ranges.of_weights(product.name)
        self.tensors += [
            numpy_helper.from_array(weights, f"{name}.int8"),
            numpy_helper.from_array(scales, f"{name}.scale"),
            numpy_helper.from_array(np.zeros(len(scales), np.int8), f"{name}.zero"),
        ]
        self._add(_DQ, [f"{name}.int8", f"{name}.scale", f"{name}.zero"], name, axis=axis)
        return name

    def _widened(self, bias: str) -> str:
        tensor = self._weights[bias]
        if tensor.data_type != _HALF:
            return bias
        name = f"{bias}.float32"
        if name not in self._made:
            self._made.add(name)
            self.tensors.append(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}.{kind}", **attributes))

    def model(self) -> ModelProto:
        """The whole model; weights that no node reads any more are left out."""
        read = {name for node in self.nodes for name in node.input}
        result = ModelProto()
        result.CopyFrom(self.original)
        kept = [tensor for tensor in (*self.original.graph.initializer, *self.tensors) if tensor.name in read]
        graph = result.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(kept)
        return result


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == _HALF:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
