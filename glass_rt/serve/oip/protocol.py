"""The Open Inference Protocol's view of a bundle: one model with named tensors, the same on every server.

`glass-rt serve` and the Triton model repository have the same tensors, defined here, so a client written for one works
with the other. `B` is the number of images of a request, `K` the largest number of crops of one of them.

    input   image             BYTES  [B, 1]     encoded image files
            image_uint8       UINT8  [1, N]     instead of `image`: the N bytes of one encoded image file
    output  probabilities     FP32   [B, 2]     in the order of the model's classes
            probability_fake  FP32   [B, 1]
            label             BYTES  [B, 1]     `fake`, `real`, `unsure`, or `none` for untrained weights
            boxes             INT32  [B, K, 4]  left, top, width, height of each crop, in stored pixels
            attention         FP32   [B, K]     weight of each crop among those of its image
            verdict           BYTES  [B, 1]     the JSON object of `glass-rt infer --json`, with the decision in full

Where images of one request have different numbers of crops, the rows of `boxes` and `attention` are padded with zeros;
a box of width 0 is no crop. K is 0 for the resize-only model. One value per image is a column [B, 1], since
Triton gives every tensor of a batching model a second dimension. Request parameters: `crops` and `seed`, as the
command line's options, `crops` up to 256.

Source: github.com/open-inference/open-inference-protocol and Triton's page on its model configuration.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import UsageError
from glass_rt.options import Crops, DetectOptions, crops_from_text, seed_from_text
from glass_rt.results.verdict import Failure, Verdict

VERSION = "1"
PLATFORM = "glass_rt"
IMAGE, IMAGE_UINT8 = "image", "image_uint8"
MAX_CROPS = 256  # a request may not ask for more work per image; the model is trained with 10
shown = reprlib.repr  # of a client's value in an error: shortened before it is formatted


# Request parameters that belong to the protocol's extensions and to the servers in between, not to the model.
TRANSPORT_PARAMETERS = frozenset(
    {
        "binary_data_output",
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "triton_enable_empty_final_response",
    }
)


@dataclass(frozen=True)
class TensorMetadata:
    """Name, datatype in the protocol's spelling, and shape with -1 for sizes that requests decide."""

    name: str
    datatype: str
    shape: tuple[int, ...]


INPUTS = (TensorMetadata(IMAGE, "BYTES", (-1, 1)), TensorMetadata(IMAGE_UINT8, "UINT8", (-1, -1)))
OUTPUTS = (
    TensorMetadata("probabilities", "FP32", (-1, 2)),
    TensorMetadata("probability_fake", "FP32", (-1, 1)),
    TensorMetadata("label", "BYTES", (-1, 1)),
    TensorMetadata("boxes", "INT32", (-1, -1, 4)),
    TensorMetadata("attention", "FP32", (-1, -1)),
    TensorMetadata("verdict", "BYTES", (-1, 1)),
)


@dataclass(frozen=True)
class ModelMetadata:
    """A model's metadata, as a server gives them on request."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]

    def to_json(self) -> dict[str, Any]:
        """The protocol's metadata object."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "platform": self.platform,
            "inputs": [_tensor_json(tensor) for tensor in self.inputs],
            "outputs": [_tensor_json(tensor) for tensor in self.outputs],
        }


def describe(manifest: BundleManifest) -> ModelMetadata:
    """The metadata of a bundle's model."""
    return ModelMetadata(model_name(manifest), (VERSION,), PLATFORM, INPUTS, OUTPUTS)


def model_name(manifest: BundleManifest) -> str:
    """The bundle's model name as a part of a URL and as a folder's name: other characters are replaced by `_`."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", manifest.model.name).lstrip(".-")
    return safe or "glass"


def images_of(tensors: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """The encoded images of a request, from its input tensors by name.

    BYTES tensors are arrays of objects (bytes) [B] or [B, 1], UINT8 ones [N] or [1, N]; either may carry either name.
    Raises UsageError.
    """
    given = {name: tensor for name, tensor in tensors.items() if name in (IMAGE, IMAGE_UINT8)}
    if unknown := sorted(set(tensors) - set(given)):
        raise UsageError(f"input {shown(unknown[0])} is not known; expected {IMAGE} (BYTES) or {IMAGE_UINT8} (UINT8)")
    if len(given) != 1:
        raise UsageError(f"expected one input, {IMAGE} (BYTES) or {IMAGE_UINT8} (UINT8); got {len(given)}")
    ((name, tensor),) = given.items()
    if tensor.dtype == np.uint8:
        return [_one_image(name, tensor)]
    if tensor.dtype != np.object_ or tensor.ndim not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
        raise UsageError(
            f"input {name}: got {tensor.dtype} {list(tensor.shape)}; expected BYTES [B] or [B, 1], one encoded image "
            "each, or UINT8 [N], the bytes of one"
        )
    images: list[bytes] = tensor.ravel().tolist()
    if not images or not all(isinstance(image, bytes) for image in images):
        raise UsageError(f"input {name}: expected at least one element, and each to be the bytes of an image file")
    return images


def _one_image(name: str, tensor: NDArray[np.uint8]) -> bytes:
    if tensor.ndim not in (1, 2) or (tensor.ndim == 2 and len(tensor) != 1):
        raise UsageError(
            f"input {name}: got UINT8 {list(tensor.shape)}; expected [N] or [1, N], the bytes of one encoded image "
            f"(several go into {IMAGE} as BYTES)"
        )
    return tensor.tobytes()


def options_of(parameters: Mapping[str, Any], options: DetectOptions) -> DetectOptions:
    """`options` with the `crops` and `seed` of a request; numbers may be spelled as strings. Raises UsageError.

    Unknown parameters are refused, since a misspelt one would silently give another verdict.
    """
    if unknown := sorted(set(parameters) - TRANSPORT_PARAMETERS - {"crops", "seed"}):
        raise UsageError(f"request parameter {shown(unknown[0])} is not known; expected crops or seed")
    changes: dict[str, Any] = {}
    if "crops" in parameters:
        changes["crops"] = _crops(parameters["crops"])
    if "seed" in parameters:
        seed = parameters["seed"]
        changes["seed"] = seed_from_text(seed) if isinstance(seed, str) else _integer("seed", seed, "0..2^64-1")
    return replace(options, **changes)


def _crops(value: Any) -> Crops:
    crops = crops_from_text(value) if isinstance(value, str) else _integer("crops", value, f"1..{MAX_CROPS} or auto")
    if isinstance(crops, int) and not 1 <= crops <= MAX_CROPS:
        raise UsageError(f"crops: got {crops}; expected 1..{MAX_CROPS} or auto")
    return crops


def _integer(name: str, value: Any, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name}: got {value!r:.60}; expected {expected}")
    return value


def outputs_of(verdicts: Sequence[Verdict]) -> dict[str, NDArray[Any]]:
    """The output tensors by name, one row per verdict; BYTES are arrays of objects (bytes)."""
    crops = max((len(verdict.crops) for verdict in verdicts), default=0)
    boxes = np.zeros((len(verdicts), crops, 4), np.int32)
    attention = np.zeros((len(verdicts), crops), np.float32)
    for row, verdict in enumerate(verdicts):
        for column, crop in enumerate(verdict.crops):
            boxes[row, column] = crop.left, crop.top, crop.width, crop.height
            attention[row, column] = crop.attention
    return {
        "probabilities": np.array([list(v.probabilities.values()) for v in verdicts], np.float32).reshape(-1, 2),
        "probability_fake": np.array([[v.probability_fake] for v in verdicts], np.float32).reshape(-1, 1),
        "label": _column(verdict.label for verdict in verdicts),
        "boxes": boxes,
        "attention": attention,
        "verdict": _column(json.dumps(verdict.to_json()) for verdict in verdicts),
    }


def refusal_of(results: Sequence[Verdict | Failure]) -> str | None:
    """Why a request has no response: the first of its images that could not be judged; None where all could.

    The protocol has no response for a part of a request, so one bad image fails the images sent along with it.
    """
    for number, result in enumerate(results, start=1):
        if isinstance(result, Failure):
            where = f"image {number} of {len(results)}: " if len(results) > 1 else ""
            return f"{where}{result.error} [{result.error.kind}]"
    return None


def _column(texts: Iterable[str]) -> NDArray[np.object_]:
    return np.array([[text.encode()] for text in texts], np.object_).reshape(-1, 1)


def _tensor_json(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
