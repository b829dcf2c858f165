"""GLASS as a model of Triton's Python backend; `glass-rt triton` puts this file into model repositories.

Triton imports it in a process of its own per instance, with `glass_rt` installed there. What the model takes and gives
is in `glass_rt.protocol`; the bundle lies beside this file. Source: Triton's page on the Python backend.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from glass_rt.detector import Detector
from glass_rt.environment import usable_cores
from glass_rt.triton_server.answers import Refusal, Request, Response, answer


class TritonPythonModel:
    """One instance: a detector and its threads, from `initialize` to `finalize`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the bundle on the instance's device; what it raises is why Triton does not load the model."""
        config = json.loads(args["model_config"])
        on_gpu = args["model_instance_kind"] == "GPU"
        instances = sum(group["count"] for group in config["instance_group"])
        self._detector = Detector.open(
            Path(__file__).parent / "bundle",
            device=f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu",
            # One instance has a thread per physical core; several share the cores.
            threads=None if on_gpu or instances == 1 else max(1, usable_cores() // instances),
            expect_bundle=config["parameters"]["bundle_sha256"]["string_value"],
        )
        self._pipeline = self._detector.pipeline()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers the requests that Triton batched, each with its tensors or its error, in their order."""
        return [_response(found) for found in answer(self._pipeline, [_request_of(request) for request in requests])]

    def finalize(self) -> None:
        """Stops the threads and closes the engines."""
        self._pipeline.close()
        self._detector.close()


def _request_of(request: Any) -> Request:
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    return Request(tensors, json.loads(request.parameters() or "{}"))


def _response(found: Response) -> Any:
    if isinstance(found, Refusal):
        code = pb_utils.TritonError.INTERNAL if found.fault == "engine" else pb_utils.TritonError.INVALID_ARG
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(found.message, code))
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, tensor) for name, tensor in found.items()])
