"""Images sent as text: a JSON object with base64 or data URLs in it, or a data URL alone.

Sources: RFC 4648, section 4 (base64); RFC 2397 (data URLs).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import reprlib
from typing import Any
from urllib.parse import unquote

from glass_rt.serve.refusals import BodyTooLarge, MalformedRequest

WHAT_TO_SEND = (
    'send the image itself as the body, a form of files, or JSON: {"image": BASE64} or {"images": [BASE64, ...]}, '
    "where data URLs may stand for base64"
)
_TEXT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:[{\[\"]|data:)", re.IGNORECASE)  # no image that is read begins so
_DATA_URL = re.compile(r"\s*data:([^,]{0,200}),", re.IGNORECASE)
_shown = reprlib.repr  # of a client's value in an error: shortened before it is formatted
_VALUES_BESIDE = 64  # of JSON that holds no more than images


def begins_text(body: bytes) -> bool:
    """Whether a body is JSON or a data URL, by its first bytes."""
    return _TEXT.match(body) is not None


def images_of_text(body: bytes, max_files: int) -> tuple[list[bytes], bool]:
    """The images in a body of text, and whether it is one image rather than a list.

    Each image is at most three quarters of its base64, and so of the body. Raises MalformedRequest, BodyTooLarge.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MalformedRequest(f"the body begins as JSON or a data URL and is no UTF-8: {WHAT_TO_SEND}") from None
    if _DATA_URL.match(text):
        return [_decoded(text.strip(), "the body")], True
    wanted = _object(text, max_files)
    if len(wanted) != 1 or not wanted.keys() <= {"image", "images"}:
        other = next((name for name in wanted if name not in ("image", "images")), None)
        raise MalformedRequest(f"JSON: {_about(other, wanted)}; {WHAT_TO_SEND}")
    ((name, value),) = wanted.items()
    if name == "image":
        return [_decoded(value, "image")], True
    if not isinstance(value, list) or not value:
        raise MalformedRequest(f"JSON: images is {_shown(value)}; expected a list with at least one image")
    if len(value) > max_files:
        raise BodyTooLarge(f"more than {max_files} images in one request: send them in parts")
    return [_decoded(image, f"images[{number}]") for number, image in enumerate(value)], False


def _object(text: str, max_files: int) -> dict[str, Any]:
    if sum(map(text.count, "[{,:")) > 4 * max_files + _VALUES_BESIDE:  # Python's lists take many times their text
        raise MalformedRequest(f"the JSON has more values than images are taken at once ({max_files}); {WHAT_TO_SEND}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"the body begins as JSON and is none ({error}); {WHAT_TO_SEND}") from None
    if not isinstance(value, dict):
        raise MalformedRequest(f"JSON: got {_shown(value)}; {WHAT_TO_SEND}")
    return value


def _about(other: str | None, wanted: dict[str, Any]) -> str:
    """What is wrong with the keys of an object."""
    if other is None:
        return "image and images are both given" if wanted else "the object is empty"
    hints = {
        "inputs": "the Open Inference Protocol is at /v2/models/MODEL/infer",
        "crops": "crops goes into the query",
        "seed": "seed goes into the query",
        "overlay": "overlay goes into the query",
        "url": "nothing is fetched from addresses",
        "image_url": "nothing is fetched from addresses",
    }
    return hints.get(other, f"{_shown(other)} is not known")


def _decoded(value: Any, what: str) -> bytes:
    """The bytes of base64, or of a data URL."""
    if not isinstance(value, str):
        raise MalformedRequest(f"{what} is {_shown(value)}; expected base64 or a data URL, in a string")
    if url := _DATA_URL.match(value):
        if not url[1].lower().replace(" ", "").endswith(";base64"):
            raise MalformedRequest(f"{what} is a data URL without ;base64; expected data:image/...;base64,...")
        value = unquote(value[url.end() :])
    elif re.match(r"\s*https?://", value, re.IGNORECASE):
        raise MalformedRequest(f"{what} is an address: nothing is fetched; {WHAT_TO_SEND}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedRequest(
            f"{what} is no base64 of RFC 4648, section 4 ({error}): without line ends, with + and /, padded with ="
        ) from None
