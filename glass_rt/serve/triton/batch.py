"""Requests that arrived together, answered together."""

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
class Request:
    """The input tensors and the parameters of one request, see `glass_rt.serve.oip.protocol`."""

    tensors: Mapping[str, NDArray[Any]]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """Why a request has no tensors, and whose fault that is."""

    message: str
    fault: Literal["request", "engine"]


Response: TypeAlias = dict[str, NDArray[Any]] | Refusal


def answer(pipeline: Pipeline, requests: Sequence[Request]) -> list[Response]:
    """One response per request, in their order; all their images share the engine's batches."""
    return [_conclude(under_way) for under_way in [_begin(pipeline, request) for request in requests]]


def _begin(pipeline: Pipeline, request: Request) -> list[Future[Verdict]] | Refusal:
    try:
        images = images_of(request.tensors)
        options = options_of(request.parameters, DetectOptions())
    except UsageError as error:
        return Refusal(f"{error} [{error.kind}]", "request")
    return [pipeline.submit(image, options) for image in images]


def _conclude(under_way: list[Future[Verdict]] | Refusal) -> Response:
    if isinstance(under_way, Refusal):
        return under_way
    results = [result_of(future) for future in under_way]
    if (message := refusal_of(results)) is None:
        return outputs_of([result for result in results if isinstance(result, Verdict)])
    failed = any(isinstance(result, Failure) and isinstance(result.error, BackendError) for result in results)
    return Refusal(message, "engine" if failed else "request")
