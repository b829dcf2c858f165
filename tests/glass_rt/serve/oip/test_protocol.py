"""Requests and responses of the Open Inference Protocol, the same on every server."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt import DetectOptions, Detector, Failure
from glass_rt.errors import ImageCorrupt, UsageError
from glass_rt.serve.oip.protocol import OUTPUTS, describe, images_of, model_name, options_of, outputs_of, refusal_of
from tests.support import Bundles

NUMPY_TYPES = {"FP32": np.float32, "INT32": np.int32, "BYTES": np.object_}


def bytes_tensor(*images: bytes) -> np.ndarray[Any, Any]:
    return np.array(images, np.object_)


def test_the_metadata_are_those_of_the_protocol(bundles: Bundles) -> None:
    metadata = describe(bundles("mobilenet_v3_small").manifest).to_json()
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("mobilenet_v3_small", ["1"], "glass_rt")
    assert metadata["inputs"][0] == {"name": "image", "datatype": "BYTES", "shape": [-1, 1]}
    assert metadata["outputs"][3] == {"name": "boxes", "datatype": "INT32", "shape": [-1, -1, 4]}
    assert json.loads(json.dumps(metadata)) == metadata


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("vit_b16", "vit_b16"),
        ("my model/2", "my_model_2"),
        ("../etc", "_etc"),
        ("détecteur", "d_tecteur"),
        ("..", "glass"),
    ],
)
def test_a_model_name_is_safe_as_a_folder_and_in_a_url(bundles: Bundles, name: str, safe: str) -> None:
    manifest = bundles("mobilenet_v3_small").manifest
    assert model_name(replace(manifest, model=replace(manifest.model, name=name))) == safe


@pytest.mark.parametrize(
    ("name", "tensor", "images"),
    [
        ("image", bytes_tensor(b"a\0", b"b\0\0"), [b"a\0", b"b\0\0"]),  # NULs at the end stay
        ("image", bytes_tensor(b"a", b"b").reshape(2, 1), [b"a", b"b"]),
        ("image", np.array([1, 0], np.uint8), [b"\1\0"]),
        ("image_uint8", np.array([[1, 0]], np.uint8), [b"\1\0"]),
    ],
)
def test_images_come_in_either_datatype(name: str, tensor: np.ndarray[Any, Any], images: list[bytes]) -> None:
    assert images_of({name: tensor}) == images


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({}, "expected one input"),
        ({"pixels": np.zeros(1, np.uint8)}, "'pixels' is not known"),
        ({"image": bytes_tensor(b"a"), "image_uint8": np.zeros(1, np.uint8)}, "expected one input"),
        ({"image": np.zeros(3, np.float32)}, "got float32"),
        ({"image": bytes_tensor()}, "at least one element"),
        ({"image": bytes_tensor(b"a", b"b").reshape(1, 2)}, r"\[1, 2\]"),
        ({"image": np.array(["text"], np.object_)}, "the bytes of an image"),
        ({"image": np.array([b"a\0"])}, "expected BYTES"),  # NumPy's own byte strings lose NULs at the end
        ({"image_uint8": np.zeros((2, 3), np.uint8)}, "several go into image as BYTES"),
    ],
)
def test_other_inputs_are_refused_by_name(tensors: dict[str, np.ndarray[Any, Any]], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        images_of(tensors)


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, DetectOptions(threshold=0.3)),
        ({"crops": 4, "seed": 7}, DetectOptions(crops=4, seed=7, threshold=0.3)),
        ({"crops": "4", "seed": str(2**64 - 1)}, DetectOptions(crops=4, seed=2**64 - 1, threshold=0.3)),
        ({"crops": "auto", "binary_data_output": True}, DetectOptions(crops="auto", threshold=0.3)),
    ],
)
def test_a_request_chooses_crops_and_seed(parameters: dict[str, Any], options: DetectOptions) -> None:
    assert options_of(parameters, DetectOptions(threshold=0.3)) == options


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"crop": 4}, "'crop' is not known"),
        ({"crops": 0}, "crops: got 0"),
        ({"crops": 10**9}, "crops: got 1000000000"),
        ({"crops": True}, "crops: got True"),
        ({"crops": "many"}, "crops: got 'many'"),
        ({"crops": "²"}, "crops: got"),  # a digit to `isdigit`, not to `int`
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"seed": "9" * 20}, "seed: got 9999"),
    ],
)
def test_other_parameters_are_refused_by_name(parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        options_of(parameters, DetectOptions())


def test_what_a_stranger_calls_things_is_cut_short_in_errors() -> None:
    name = "x" * 10**6
    with pytest.raises(UsageError) as parameter:
        options_of({name: 1}, DetectOptions())
    with pytest.raises(UsageError) as tensor:
        images_of({name: bytes_tensor(b"a")})
    assert len(str(parameter.value)) < 200
    assert len(str(tensor.value)) < 200


def test_outputs_hold_the_verdicts_and_are_filled_up_with_zeros(bundles: Bundles, pictures: tuple[Path, ...]) -> None:
    with Detector.open(bundles("mobilenet_v3_small").folder) as detector:
        three = detector.detect(pictures[0], DetectOptions(crops=3))
        one = detector.detect(pictures[6], DetectOptions(crops=1))
    outputs = outputs_of([three, one])
    assert [(name, outputs[name].dtype) for name in outputs] == [
        (tensor.name, np.dtype(NUMPY_TYPES[tensor.datatype])) for tensor in OUTPUTS
    ]
    assert {name: tensor.shape for name, tensor in outputs.items()} == {
        "probabilities": (2, 2),
        "probability_fake": (2, 1),
        "label": (2, 1),
        "boxes": (2, 3, 4),
        "attention": (2, 3),
        "verdict": (2, 1),
    }
    assert [json.loads(text) for text in outputs["verdict"].ravel()] == [
        json.loads(json.dumps(verdict.to_json())) for verdict in (three, one)
    ]
    assert outputs["boxes"][1].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert outputs["boxes"][0].tolist() == [[c.left, c.top, c.width, c.height] for c in three.crops]
    assert outputs["attention"].sum(axis=1).tolist() == pytest.approx([1, 1])
    assert outputs["label"].ravel().tolist() == [three.label.encode(), one.label.encode()]
    classes = bundles("mobilenet_v3_small").manifest.model.classes
    assert outputs["probabilities"][0].tolist() == pytest.approx([three.probabilities[name] for name in classes])


@pytest.mark.slow
def test_outputs_of_the_resize_only_model_have_no_crops(bundles: Bundles, pictures: tuple[Path, ...]) -> None:
    with Detector.open(bundles("mobilenet_v3_small", "resize").folder) as detector:
        outputs = outputs_of([detector.detect(pictures[0])])
    assert (outputs["boxes"].shape, outputs["attention"].shape) == ((1, 0, 4), (1, 0))


def test_a_refusal_names_the_image_and_the_kind(bundles: Bundles, pictures: tuple[Path, ...]) -> None:
    failure = Failure(None, ImageCorrupt("the JPEG is truncated"))
    with Detector.open(bundles("mobilenet_v3_small").folder) as detector:
        verdict = detector.detect(pictures[6])
    assert refusal_of([verdict, verdict]) is None
    assert refusal_of([failure]) == "the JPEG is truncated [corrupt]"
    assert refusal_of([verdict, failure]) == "image 2 of 2: the JPEG is truncated [corrupt]"
