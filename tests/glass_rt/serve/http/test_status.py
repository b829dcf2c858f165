"""Every error has its status, and where it helps a time to retry."""

import pytest

from glass_rt.errors import (
    BackendError,
    GlassError,
    ImageCorrupt,
    ImageError,
    ImageFormatError,
    ImageTooLarge,
    MissingDependency,
    UsageError,
)
from glass_rt.serve import refusals
from glass_rt.serve.http.responses import error_response
from glass_rt.serve.http.status import headers_of, status_of


def test_every_refusal_has_a_status_of_its_own_choice() -> None:
    kinds = [kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, refusals.Refusal)]
    assert len(kinds) > 8
    for kind in kinds:
        if kind is not refusals.Refusal:
            assert 400 <= status_of(kind("words")) <= 504
            assert status_of(kind("words")) != 500, kind


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 400),
        (ImageFormatError("x"), 415),
        (MissingDependency("pillow-heif", "heic", "reading HEIC images"), 415),
        (ImageCorrupt("x"), 422),
        (ImageTooLarge("x"), 413),
        (ImageError("x"), 422),
        (BackendError("x"), 500),
        (GlassError("x"), 500),
        (refusals.Overloaded("x"), 429),
        (refusals.Draining("x"), 503),
        (refusals.EngineBroken("x"), 503),
        (refusals.DeadlineExceeded("x"), 504),
        (refusals.BodyTooSlow("x"), 408),
        (refusals.Unauthorized("x"), 401),
        (refusals.UnknownModel("x"), 404),
        (refusals.ImageRefused("x", ImageCorrupt("x")), 422),  # its image's
    ],
)
def test_the_status_of(error: GlassError, status: int) -> None:
    assert status_of(error) == status


def test_headers_say_when_to_come_again_and_how_to_identify_oneself() -> None:
    assert headers_of(refusals.Overloaded("x", retry_after_s=3)) == {"Retry-After": "3"}
    assert headers_of(refusals.Draining("x", retry_after_s=1)) == {"Retry-After": "1", "Connection": "close"}
    assert headers_of(refusals.Unauthorized("x")) == {"WWW-Authenticate": "Bearer"}
    assert headers_of(ImageCorrupt("x")) == {}


def test_below_v2_errors_have_the_inference_protocols_form() -> None:
    assert bytes(error_response(ImageCorrupt("cut off"), "/v2/models/m/infer").body) == b'{"error":"cut off"}\n'
    assert b'"kind":"corrupt"' in bytes(error_response(ImageCorrupt("cut off"), "/v1/verdict").body)
