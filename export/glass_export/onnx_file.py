"""PyTorch modules to ONNX files."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from glass_rt.errors import ExportError, MissingDependency, first_line

OPSET = 20  # the first with Gelu as one operator; TensorRT 10.3 reads it
BFLOAT16_OPSET = 22  # the first in which convolutions may be bfloat16


def onnx_from_torch(
    module: nn.Module,
    path: Path,
    inputs: Mapping[str, Tensor],
    outputs: tuple[str, ...],
    dynamic: Mapping[str, dict[int, str]],
    metadata: Mapping[str, str],
    opset: int = OPSET,
) -> None:
    """Traces `module` on the example `inputs` and writes one checked ONNX file with its weights inside.

    `dynamic` names the free dimensions of each input, by axis; examples must have at least 2 along them, since the
    tracer takes 1 for a constant. Raises ExportError.
    """
    labels = {label: torch.export.Dim(label) for axes in dynamic.values() for label in axes.values()}
    shapes = tuple({axis: labels[label] for axis, label in dynamic[name].items()} for name in inputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=opset,
                external_data=False,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=shapes,
                verbose=False,
            )
    except ImportError as error:
        raise MissingDependency("onnxscript", "export", "the export stage") from error
    except Exception as error:  # the exporter wraps any error of the tracer
        reason = first_line(error.__cause__ or error)
        raise ExportError(f"{path.name}: PyTorch could not trace the model: {reason}") from error
    assert program is not None, "dynamo=True returns a program"
    model = program.model_proto
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    _check(path, dynamic)


def _check(path: Path, dynamic: Mapping[str, dict[int, str]]) -> None:
    """The file is valid ONNX and its free dimensions are free."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name}: the exported graph is not valid ONNX: {first_line(error)}") from error
    model = onnx.load(path, load_external_data=False)
    for value in model.graph.input:
        for axis in dynamic[value.name]:
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise ExportError(f"{path.name}: axis {axis} of {value.name} was traced as a constant")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress lines and its advice on dependencies that are not used."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
