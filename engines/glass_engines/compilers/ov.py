"""ONNX to OpenVINO's intermediate representation: one .xml and one .bin with the weights.

Weights are written as they are, but for engines that compute in bf16: there the large ones are rounded to it, as
OpenVINO would when it opens them. The file is half as large then, and no second copy is kept in memory.

OpenVINO leaves out transposes between (N, C, H, W) and (N, H, W, C) where the batch size is fixed, and carries them
out where it is free. Graphs that are full of them (ConvNeXt's, around each LayerNorm) are written with a small fixed
batch, and `OpenVinoBackend` runs as many of those as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from glass_engines.compilers.base import EXACT, Compiler, compile_failure
from glass_rt.backends.ov import check_precision, load_openvino

_TO_PLANES = (0, 3, 1, 2)
_MULTIPLIES = ("MatMul", "Convolution", "GroupConvolution")
_LARGE = 4096  # weights; the others are not worth a node
# Two crops at a time: alone each takes longer, in more they are no faster. An image has one global view.
_FIXED_BATCH = {"global": 1, "local": 2}


def ir_from_onnx(graph: Path, engine: Path, *, weights_in_bf16: bool = False) -> None:
    """Writes `engine` (.xml), which is named after its role, and its .bin. Raises BuildError."""
    ov = load_openvino()
    try:
        model = ov.Core().read_model(graph)
        if _transposes_to_planes(model) > 1:  # one turns the pixels of the input
            batch = _FIXED_BATCH[engine.stem]
            model.reshape({port: [batch, *port.get_partial_shape()[1:]] for port in model.inputs})
        if weights_in_bf16:
            _round_weights(model)
        ov.save_model(model, engine, compress_to_fp16=False)
        if weights_in_bf16:
            _mark_rounded_weights(engine)
    except RuntimeError as error:
        raise compile_failure("OpenVINO", graph, error) from error


def _transposes_to_planes(model: Any) -> int:
    orders = [op.input_value(1).get_node() for op in model.get_ops() if op.get_type_name() == "Transpose"]
    return sum(order.get_type_name() == "Constant" and tuple(order.data) == _TO_PLANES for order in orders)


def _round_weights(model: Any) -> None:
    """Puts bf16 constants, widened again, in the place of the weights of products and convolutions."""
    ov = load_openvino()
    for weights in [op for op in model.get_ops() if op.get_type_name() == "Constant"]:
        readers = list(weights.output(0).get_target_inputs())
        if (
            weights.get_element_type() == ov.Type.f32
            and weights.data.size >= _LARGE
            and all(reader.get_node().get_type_name() in _MULTIPLIES for reader in readers)
        ):
            rounded = ov.Tensor(ov.Type.bf16, weights.shape)
            rounded.data.view(np.uint16)[...] = bf16_bits(weights.data)
            widened = ov.opset13.convert(ov.opset13.constant(rounded), "f32")
            for reader in readers:
                reader.replace_source_output(widened.output(0))


def bf16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of float32 values, rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _mark_rounded_weights(engine: Path) -> None:
    """Says that the runtime need not widen these weights: unmarked, it does, and keeps all copies.

    OpenVINO marks the weights that it rounds to half itself so, and has no function for others.
    """
    tree = ElementTree.parse(engine)
    for layer in tree.iterfind("./layers/layer[@type='Convert']"):
        if layer.find("./input/port[@precision='BF16']") is not None:
            ElementTree.SubElement(
                ElementTree.SubElement(layer, "rt_info"), "attribute", name="decompression", version="0"
            )
    tree.write(engine)


def _tools() -> Mapping[str, str]:
    return {"openvino": load_openvino().__version__}


def compiler_for(precision: str) -> Compiler:
    """OpenVINO's compiler. Raises UsageError where this processor does not compute in `precision`."""
    check_precision(precision)
    return Compiler(
        precisions=("fp32", "bf16", "int8"),
        device="cpu",
        suffix=".xml",
        compile=partial(ir_from_onnx, weights_in_bf16=precision == "bf16"),
        tools=_tools,
        narrows={"bf16": EXACT, "int8": EXACT},
    )
