"""Requests that Triton batched: their images are judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from glass_rt.errors import BackendError, UsageError
from glass_rt.inference.pipeline import Pipeline, result_of
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Failure, Verdict
from glass_rt.serve.oip.protocol import images_of, options_of, outputs_of, refusal_of


@dataclass(frozen=True, eq=False)
class TritonRequest:
    """The input tensors and the parameters of one request, as `glass_rt.serve.oip.protocol` defines them."""

    tensors: Mapping[str, NDArray[Any]]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class TritonRefusal:
    """Why a request has no tensors, and whether the request or the engine is at fault."""

    message: str
    fault: Literal["request", "engine"]


TritonResponse: TypeAlias = dict[str, NDArray[Any]] | TritonRefusal


def judge_requests(pipeline: Pipeline, requests: Sequence[TritonRequest]) -> list[TritonResponse]:
    """One response per request, in their order; all their images share the engine's batches."""
    return [_conclude(under_way) for under_way in [_begin(pipeline, request) for request in requests]]


def _begin(pipeline: Pipeline, request: TritonRequest) -> list[Future[Verdict]] | TritonRefusal:
    try:
        images = images_of(request.tensors)
        options = options_of(request.parameters, DetectOptions())
    except UsageError as error:
        return TritonRefusal(f"{error} [{error.kind}]", "request")
    return [pipeline.submit(image, options) for image in images]


def _conclude(under_way: list[Future[Verdict]] | TritonRefusal) -> TritonResponse:
    if isinstance(under_way, TritonRefusal):
        return under_way
    results = [result_of(future) for future in under_way]
    if (message := refusal_of(results)) is None:
        return outputs_of([result for result in results if isinstance(result, Verdict)])
    failed = any(isinstance(result, Failure) and isinstance(result.error, BackendError) for result in results)
    return TritonRefusal(message, "engine" if failed else "request")
