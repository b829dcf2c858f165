"""ONNX graphs to ONNX graphs in INT8, by NNCF: `--precision int8`."""

from __future__ import annotations

import logging
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from glass_rt.backends.ort import load_onnxruntime
from glass_rt.errors import BuildError, MissingDependency, first_line

# Attention and LayerNorm want NNCF's transformer scheme: it keeps what they cannot bear out of INT8.
_TRANSFORMER_PARTS = ("LayerNormalization", "Softmax")
MOST_VIEWS = 300  # NNCF's own default; more change the ranges little


def quantised_from_onnx(graph: Path, views: NDArray[Any], output: Path) -> None:
    """Quantises a float32 graph for CPUs: a Q/DQ graph, with ranges learnt from `views` (N, S, S, 3).

    Views are in the type of the graph's input. Weights and activations of convolutions and matrix products become INT8;
    normalisation, LayerNorm, softmax and the embedding stay float32. Raises MissingDependency, BuildError.
    """
    nncf, onnx = load_nncf()
    exact = onnx.load(graph)
    transformer = any(node.op_type in _TRANSFORMER_PARTS for node in exact.graph.node)
    scheme = nncf.ModelType.TRANSFORMER if transformer else None
    onnx.save(_quantised(nncf, exact, graph.name, views, model_type=scheme), output)


def symmetric_from_onnx(graph: Path, views: NDArray[Any], output: Path) -> None:
    """Quantises a graph in half for TensorRT: see `int8_products`; `views` as in `quantised_from_onnx`.

    NNCF learns from a float32 twin of the graph; the biases that it would correct stay as they were. Raises
    MissingDependency, BuildError.
    """
    nncf, onnx = load_nncf()
    from glass_engines.int8.int8_products import float32_twin, int8_products, with_int8_products

    half = onnx.load(graph)
    products = int8_products(half.graph)
    others = [node.name for node in half.graph.node if node.name not in products]
    learnt = _quantised(
        nncf,
        float32_twin(half),
        graph.name,
        views,
        preset=nncf.QuantizationPreset.PERFORMANCE,  # ranges symmetric about 0
        ignored_scope=nncf.IgnoredScope(names=others, validate=False),  # casts to float32 are none in the twin
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.DISABLE,  # of CPUs without VNNI
            disable_bias_correction=True,
        ),
    )
    try:
        quantised = with_int8_products(half, learnt, products)
    except ValueError as error:
        raise BuildError(f"NNCF quantised {graph.name} as TensorRT does not take it: {error}") from error
    onnx.save(quantised, output)


def _quantised(nncf: Any, model: Any, name: str, views: NDArray[Any], **scheme: Any) -> Any:
    step = max(1, len(views) // MOST_VIEWS)
    samples = [view[None] for view in views[::step][:MOST_VIEWS]]
    dataset = nncf.Dataset(samples, lambda view: {"pixels": view})
    try:
        with redirect_stdout(StringIO()):  # where the library draws its progress, and results belong
            return nncf.quantize(model, dataset, subset_size=len(samples), **scheme)
    except Exception as error:  # the library raises many unrelated types
        raise BuildError(f"NNCF cannot quantise {name}: {first_line(error)}") from error


def load_nncf() -> tuple[Any, Any]:
    """The modules nncf and onnx. Raises MissingDependency, for ONNX Runtime too, by which NNCF runs graphs."""
    load_onnxruntime()  # which keeps libraries from reporting to their makers
    try:
        import nncf
        import onnx
    except ImportError as error:
        raise MissingDependency(error.name or "nncf", "int8", "building INT8 engines") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf, onnx
