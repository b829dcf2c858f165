"""Errors and their HTTP status, in one table."""

from __future__ import annotations

from http import HTTPStatus

from glass_rt.errors import (
    BackendError,
    GlassError,
    ImageError,
    ImageFormatError,
    ImageTooLarge,
    MissingDependency,
    OutOfMemory,
    UsageError,
)
from glass_rt.serve.refusals import (
    AmbiguousRequest,
    BodyTooLarge,
    BodyTooSlow,
    DeadlineExceeded,
    Draining,
    EngineBroken,
    ForeignHost,
    ForeignOrigin,
    ImageRefused,
    MalformedRequest,
    Overloaded,
    Refusal,
    Unauthorized,
    UnknownModel,
    UnsupportedEncoding,
)

CLIENT_GONE = 499  # in logs and metrics alone: no client is left to receive it

STATUSES: dict[type[GlassError], int] = {
    UsageError: HTTPStatus.BAD_REQUEST,
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    ForeignHost: HTTPStatus.FORBIDDEN,
    ForeignOrigin: HTTPStatus.FORBIDDEN,
    UnknownModel: HTTPStatus.NOT_FOUND,
    BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ImageFormatError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    MissingDependency: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,  # a format whose decoder is not installed here
    UnsupportedEncoding: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    BackendError: HTTPStatus.INTERNAL_SERVER_ERROR,
    OutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    Draining: HTTPStatus.SERVICE_UNAVAILABLE,
    EngineBroken: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
}


def status_of(error: GlassError) -> int:
    """The HTTP status of an error: its own, or that of its nearest ancestor in the table."""
    if isinstance(error, ImageRefused):
        return status_of(error.error)
    return next((int(STATUSES[kind]) for kind in type(error).__mro__ if kind in STATUSES), 500)


def headers_of(error: GlassError) -> dict[str, str]:
    """Headers that go with an error: when to try again, how to identify oneself."""
    headers = {}
    if isinstance(error, Refusal) and error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, (Draining, AmbiguousRequest)):
        headers["Connection"] = "close"
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return headers
