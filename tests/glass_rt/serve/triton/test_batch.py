"""Requests that Triton batched: each gets its own response."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt import DetectOptions, Detector
from glass_rt.errors import BackendError
from glass_rt.inference.pipeline import Pipeline
from glass_rt.serve.triton.batch import TritonRefusal, TritonRequest, TritonResponse, judge_requests
from glass_rt.triton_server import answers as former
from tests.support import Bundles


@pytest.fixture(scope="module")
def detector(bundles: Bundles) -> Iterator[Detector]:
    with Detector.open(bundles("mobilenet_v3_small").folder) as opened:
        yield opened


@pytest.fixture
def pipeline(detector: Detector) -> Iterator[Pipeline]:
    with detector.pipeline() as opened:
        yield opened


def request(*images: bytes, **parameters: Any) -> TritonRequest:
    return TritonRequest({"image": np.array(images, np.object_)[:, None]}, parameters)


def test_each_request_is_answered_with_its_own_options(
    pipeline: Pipeline, detector: Detector, pictures: tuple[Path, ...]
) -> None:
    images = [path.read_bytes() for path in pictures]
    responses = judge_requests(
        pipeline,
        [
            request(images[0], images[1], crops=2, seed=5),
            request(b"no image"),
            request(images[0], crop=2),
            request(images[0], b"no image"),
            request(images[2], crops=1),
        ],
    )
    first, broken, misspelt, half, last = responses
    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert [json.loads(text)["sha256"] for text in first["verdict"][:, 0]] == [
        detector.detect(image).sha256 for image in images[:2]
    ]
    expected = detector.detect(images[1], DetectOptions(crops=2, seed=5))
    assert first["boxes"][1].tolist() == [[c.left, c.top, c.width, c.height] for c in expected.crops]
    assert first["probability_fake"][1, 0] == pytest.approx(expected.probability_fake, abs=1e-5)
    assert last["boxes"].shape == (1, 1, 4)
    assert isinstance(broken, TritonRefusal)
    assert broken.message.endswith("[format]")
    assert misspelt == TritonRefusal("request parameter 'crop' is not known; expected crops or seed [usage]", "request")
    assert isinstance(half, TritonRefusal)
    assert half.message.startswith("image 2 of 2: ")


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (BackendError("the device is gone"), "the device is gone [backend]"),
        (RuntimeError("cublas: not initialised\nat line 3"), "cublas: not initialised [backend]"),
    ],
)
def test_an_engine_that_fails_is_not_the_requests_fault(
    pipeline: Pipeline,
    pictures: tuple[Path, ...],
    monkeypatch: pytest.MonkeyPatch,
    detector: Detector,
    raised: Exception,
    words: str,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(detector._judge, "start", fail)
    assert judge_requests(pipeline, [request(pictures[6].read_bytes())]) == [TritonRefusal(words, "engine")]


def test_models_written_before_find_the_former_names() -> None:
    assert former.__all__ == ["Refusal", "Request", "Response", "answer"]
    assert (former.Request, former.Refusal) == (TritonRequest, TritonRefusal)
    assert former.Response == TritonResponse
    assert former.answer is judge_requests
