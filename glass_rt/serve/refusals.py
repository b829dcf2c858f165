"""The reasons for which a server refuses a request."""

from __future__ import annotations

from glass_rt.errors import GlassError


class Refusal(GlassError):
    """A request is refused; `retry_after_s` is when the client may try again, where that helps."""

    kind = "refused"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Refusal):
    """The queue is full."""

    kind = "overloaded"


class Draining(Refusal):
    """The server finishes the requests under way and stops."""

    kind = "draining"


class EngineBroken(Refusal):
    """The engine has failed several times in a row, or hangs; images are refused until a canary passes."""

    kind = "engine_broken"


class DeadlineExceeded(Refusal):
    """The images were not judged in time, and were cancelled."""

    kind = "deadline"


class BodyTooLarge(Refusal):
    """The request's body is larger than the limit, or has more images than the server takes at once."""

    kind = "body_too_large"


class BodyTooSlow(Refusal):
    """The request's body did not arrive in time."""

    kind = "body_too_slow"


class MalformedRequest(Refusal):
    """The request cannot be parsed."""

    kind = "malformed"


class AmbiguousRequest(MalformedRequest):
    """Programs could read the request in different ways; its connection is closed."""


class ForeignHost(Refusal):
    """The request's Host is not a name of this server."""

    kind = "foreign_host"


class ForeignOrigin(Refusal):
    """A page of another origin sent the request."""

    kind = "foreign_origin"


class UnsupportedEncoding(Refusal):
    """The body is encoded in a way that is not read, or not in the way that the request says."""

    kind = "content_encoding"


class Unauthorized(Refusal):
    """The request has no API key, or an unknown one."""

    kind = "unauthorized"


class UnknownModel(Refusal):
    """The server has no model of that name and version."""

    kind = "unknown_model"


class ImageRefused(GlassError):
    """An image of the request could not be judged, and with it the request; `error` is that image's own."""

    def __init__(self, message: str, error: GlassError) -> None:
        super().__init__(message)
        self.error = error
