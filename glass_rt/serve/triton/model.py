"""GLASS as a model of Triton's Python backend; `glass-rt triton` puts this file into model repositories.

Triton imports it in a process of its own per instance, with `glass_rt` installed there. `glass_rt.serve.oip.protocol`
describes the model's tensors; the bundle lies beside this file. Source: Triton's page on the Python backend.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from glass_rt.detector import Detector
from glass_rt.machine.environment import usable_cores
from glass_rt.serve.triton.batch import TritonRefusal, TritonRequest, TritonResponse, judge_requests
from glass_rt.serve.triton.config import instance_device


class TritonPythonModel:
    """One instance: a detector and its threads, from `initialize` to `finalize`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the bundle on the instance's device. Where this raises, Triton shows the error and loads no model."""
        config = json.loads(args["model_config"])
        on_gpu = args["model_instance_kind"] == "GPU"
        instances = sum(group["count"] for group in config["instance_group"])
        self._detector = Detector.open(
            Path(__file__).parent / "bundle",
            device=instance_device(config, args["model_instance_kind"], args["model_instance_device_id"]),
            # One instance has a thread per physical core; several share the cores.
            threads=None if on_gpu or instances == 1 else max(1, usable_cores() // instances),
            expect_bundle=config["parameters"]["bundle_sha256"]["string_value"],
        )
        self._pipeline = self._detector.pipeline()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Judges the requests that Triton batched; each gets its tensors or its error, in their order."""
        responses = judge_requests(self._pipeline, [_request_of(request) for request in requests])
        return [_triton_response(response) for response in responses]

    def finalize(self) -> None:
        """Stops the threads and closes the engines."""
        self._pipeline.close()
        self._detector.close()


def _request_of(request: Any) -> TritonRequest:
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    return TritonRequest(tensors, json.loads(request.parameters() or "{}"))


def _triton_response(response: TritonResponse) -> Any:
    if isinstance(response, TritonRefusal):
        code = pb_utils.TritonError.INTERNAL if response.fault == "engine" else pb_utils.TritonError.INVALID_ARG
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(response.message, code))
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, tensor) for name, tensor in response.items()])
