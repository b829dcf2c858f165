"""The canary beside a model of a Triton repository."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glass_rt import Detector, Verdict
from glass_rt.image.encoded import load
from glass_rt.serve.oip.protocol import OUTPUTS, outputs_of
from glass_rt.serve.triton import canary
from tests.support import Bundles
from tests.tritonserver import free_port


@pytest.fixture(scope="module")
def verdict(bundles: Bundles) -> Verdict:
    with Detector.open(bundles("mobilenet_v3_small").folder) as detector:
        return detector.detect(canary.PNG)


@pytest.fixture
def reply(verdict: Verdict) -> Any:
    """The verdict as Triton spells it in JSON."""
    outputs = []
    for tensor in OUTPUTS:
        array = outputs_of([verdict])[tensor.name]
        values = [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]
        outputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": list(array.shape), "data": values})
    return json.loads(json.dumps({"model_name": "mobilenet_v3_small", "outputs": outputs}))


def test_the_canary_image_is_whole() -> None:
    assert load(canary.PNG).pixels.shape == (16, 16, 3)


def test_a_verdict_is_one(reply: Any, verdict: Verdict) -> None:
    assert canary.problem_with(reply, None) is None
    assert canary.problem_with(reply, verdict.engine.bundle_sha256) is None


def _empty(reply: Any) -> None:
    reply["outputs"][0]["data"] = []  # what Triton 24.10 makes of NumPy 2


def _without_verdict(reply: Any) -> None:
    del reply["outputs"][5]


def _not_a_number(reply: Any) -> None:
    reply["outputs"][1]["data"] = [float("nan")]


def _other_label(reply: Any) -> None:
    reply["outputs"][2]["data"] = ["unsure"]


def _no_json(reply: Any) -> None:
    reply["outputs"][5]["data"] = ["{"]


def _error(reply: Any) -> None:
    reply.clear()
    reply["error"] = "Stub process is not healthy"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_empty, r"probabilities is .* expected \[1, 2\]"),
        (_without_verdict, "not a verdict .*verdict"),
        (_not_a_number, "disagree"),
        (_other_label, "disagree"),
        (_no_json, "not a verdict"),
        (_error, "Stub process is not healthy"),
    ],
)
def test_anything_else_is_not(reply: Any, spoil: Callable[[Any], None], reason: str) -> None:
    spoilt = copy.deepcopy(reply)
    spoil(spoilt)
    problem = canary.problem_with(spoilt, None)
    assert problem is not None
    assert re.search(reason, problem), problem


def test_the_verdict_of_another_bundle_is_not(reply: Any) -> None:
    assert "beside this file is" in str(canary.problem_with(reply, "0" * 64))


@pytest.mark.parametrize("value", [None, [], {}, {"outputs": None}, {"outputs": [{}]}, "text"])
def test_foreign_answers_are_told_and_not_fallen_over(value: Any) -> None:
    assert "not a verdict" in str(canary.problem_with(value, None))


def test_it_runs_on_python_alone_and_says_that_nobody_answers() -> None:
    command = [sys.executable, "-I", "-S", str(Path(canary.__file__)), "--url", f"http://127.0.0.1:{free_port()}"]
    proxied = {**os.environ, "http_proxy": "http://no.such.host.invalid:1", "no_proxy": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=proxied)
    assert done.returncode == 1
    assert done.stderr.startswith("no verdict: ")
    assert "refused" in done.stderr
