"""Half products that are summed in float32, said in the only way that NVIDIA's builders take it from a network.

A builder may choose kernels that round the running sum to half; no flag forbids it. A product between casts, of
operands widened to float32 and a result narrowed back, is still built as one kernel over half values, and its sums are
float32 (NVIDIA's Model Optimizer puts the same casts in, `insert_matmul_casts`). Plans of TensorRT for RTX show it: the
kernels and their number stay, and `accumulation_type` is no longer left to the card.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def sum_in_float32(trt: Any, network: Any) -> int:
    """Puts casts around every matrix product of half operands; returns how many there were.

    Convolutions are as they were: their weights are no tensors of the network, to be cast.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    readers = defaultdict[str, list[tuple[Any, int]]](list)
    for layer in layers:
        for index in range(layer.num_inputs):
            tensor = layer.get_input(index)
            if tensor is not None:  # an optional one
                readers[tensor.name].append((layer, index))
    products = [layer for layer in layers if layer.type == trt.LayerType.MATRIX_MULTIPLY and _is_half(trt, layer)]
    for layer in products:
        product = layer.get_output(0)
        for index in range(layer.num_inputs):
            layer.set_input(index, network.add_cast(layer.get_input(index), trt.DataType.FLOAT).get_output(0))
        narrow = network.add_cast(product, trt.DataType.HALF).get_output(0)
        for reader, index in readers[product.name]:
            reader.set_input(index, narrow)
    return len(products)


def _is_half(trt: Any, layer: Any) -> bool:
    tensors = [layer.get_input(index) for index in range(layer.num_inputs)]
    return all(tensor.dtype == trt.DataType.HALF for tensor in (*tensors, layer.get_output(0)))
