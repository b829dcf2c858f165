"""Images in JSON and data URLs, and the parts of a form that are images: judged as the image itself is."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from glass_rt.detector import Detector
from glass_rt.serve.http.text_images import begins_text, images_of_text
from glass_rt.serve.refusals import BodyTooLarge, MalformedRequest
from tests.serving import Process, same_verdict

JSON = {"Content-Type": "application/json"}


def text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def url(image: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{text(image)}"


TAKEN: dict[str, tuple[Any, dict[str, str]]] = {
    "JSON": (lambda image: json.dumps({"image": text(image)}), JSON),
    "JSON of any content type": (lambda image: " \n" + json.dumps({"image": text(image)}), {}),
    "a data URL in JSON": (lambda image: json.dumps({"image": url(image)}), JSON),
    "a data URL": (url, {"Content-Type": "text/plain"}),
    "a data URL without a type": (lambda image: url(image, ""), {}),
    "a data URL with a parameter": (lambda image: url(image, "image/jpeg;name=a.jpg"), {}),
    "a data URL that is percent-encoded": (lambda image: url(image).replace("+", "%2B").replace("=", "%3d"), {}),
    "JSON behind a byte order mark": (lambda image: "\ufeff" + json.dumps({"image": text(image)}), JSON),
    "a data URL in capitals, with a line end": (lambda image: f"DATA:image/PNG;BASE64,{text(image)}\n", {}),
}


@pytest.mark.parametrize("form", TAKEN)
def test_an_image_in_a_text_is_judged_as_the_image(form: str, server: Process, judge: Detector, picture: bytes) -> None:
    write, headers = TAKEN[form]
    response = server.post(write(picture).encode(), "?seed=5", headers)
    assert response.status == 200, response.body
    assert same_verdict(response.json, server.post(picture, "?seed=5").json)


def test_a_list_gets_an_array_with_failures_in_their_place(server: Process, picture: bytes) -> None:
    body = json.dumps({"images": [text(picture), text(b"no image"), url(picture)]}).encode()
    response = server.post(body, "?crops=2", JSON)
    assert response.status == 200
    first, second, third = response.json
    assert second["error"]["kind"] == "format"
    assert same_verdict(first, server.post(picture, "?crops=2").json)
    assert same_verdict(third, first)


def test_one_image_that_is_none_has_its_own_status(server: Process) -> None:
    response = server.post(json.dumps({"image": text(b"no image")}).encode(), headers=JSON)
    assert (response.status, response.json["error"]["kind"]) == (415, "format")


def test_a_large_text_is_read_like_a_small_one(server: Process, picture: bytes) -> None:
    """JPEG takes bytes after its end."""
    body = json.dumps({"image": text(picture + bytes(2 << 20))}).encode()
    assert server.post(body, headers=JSON).json["width"] == 640


REFUSED: dict[str, tuple[bytes, str]] = {
    "no JSON": (b'{"image": ', "begins as JSON and is none"),
    "no UTF-8": (b'{"image": "\xff"}', "is no UTF-8"),
    "a list": (b'["aaaa"]', "JSON: got"),
    "a text": (b'"aaaa"', "JSON: got 'aaaa'"),
    "nothing": (b"{}", "the object is empty"),
    "both": (b'{"image": "", "images": []}', "both given"),
    "another key": (b'{"picture": "aaaa"}', "'picture' is not known"),
    "an option": (b'{"image": "aaaa", "crops": 3}', "crops goes into the query"),
    "an address": (b'{"url": "http://127.0.0.1/a.jpg"}', "nothing is fetched"),
    "an address as an image": (b'{"image": "http://127.0.0.1/a.jpg"}', "nothing is fetched"),
    "the other protocol": (b'{"inputs": []}', "/v2/models/MODEL/infer"),
    "a number": (b'{"image": 7}', "expected base64 or a data URL"),
    "an object": (b'{"image": {"b64": "aaaa"}}', "expected base64 or a data URL"),
    "no list": (b'{"images": "aaaa"}', "expected a list"),
    "an empty list": (b'{"images": []}', "at least one"),
    "an element of a list": (b'{"images": ["aaaa", 3]}', r"images\[1\] is 3"),
    "base64 with line ends": (b'{"image": "aaaa\\nbbbb"}', "without line ends"),
    "base64 without its end": (b'{"image": "aaa"}', "padded with ="),
    "base64 for addresses": (b'{"image": "_-aa"}', "image is no base64"),
    "a data URL that is text": (b"data:text/plain,hello", "without ;base64"),
    "a data URL with blanks": (b"data:image/png;base64,aa aa", "the body is no base64"),
    "too many values": (b'{"image": [' + b"[]," * 9000 + b"[]]}", "more values than"),
    "deep": (b"[" * 100 + b"]" * 100, "JSON"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_taken_is_told_what_to_send(kind: str) -> None:
    body, says = REFUSED[kind]
    assert begins_text(body)
    with pytest.raises(MalformedRequest, match=says) as refused:
        images_of_text(body, 64)
    assert len(str(refused.value)) < 400


def test_refusals_are_answered_with_400(server: Process) -> None:
    response = server.post(b'{"picture": "aaaa"}', headers=JSON)
    assert (response.status, response.json["error"]["kind"]) == (400, "malformed")
    assert '{"image": BASE64}' in response.json["error"]["message"]


def test_no_more_images_than_the_queue_takes() -> None:
    with pytest.raises(BodyTooLarge, match="more than 2 images"):
        images_of_text(b'{"images": ["", "", ""]}', 2)


@pytest.mark.parametrize("magic", [b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"", b"  ", b"dat"])
def test_images_are_not_taken_for_text(magic: bytes) -> None:
    assert not begins_text(magic)


PARTS: dict[str, tuple[bytes, str | None]] = {  # the headers of a part, and the path in its verdict
    "a name": (b'Content-Disposition: form-data; name="i"; filename="a.jpg"', "a.jpg"),
    "filename* alone": (
        b"Content-Disposition: form-data; name=\"i\"; filename*=UTF-8''na%C3%AFve%20a.jpg",
        "naïve a.jpg",
    ),
    "both names": (
        b'Content-Disposition: form-data; name="i"; filename="naive.jpg"; filename*=utf-8\'\'na%C3%AFve.jpg',
        "naïve.jpg",
    ),
    "filename* in Latin 1": (b"Content-Disposition: form-data; name=i; filename*=ISO-8859-1'en'%A3.jpg", "£.jpg"),
    "filename* without a charset": (b"Content-Disposition: form-data; name=i; filename*=a.jpg", "a.jpg"),
    "filename* that is no UTF-8": (b"Content-Disposition: form-data; name=i; filename*=utf-8''%FF.jpg", "\ufffd.jpg"),
    "filename* in pieces": (
        b"Content-Disposition: form-data; name=i; filename*0*=utf-8''%C3%A9; filename*1=\"b.jpg\"",
        "éb.jpg",
    ),
    "a name that has the other's form in it": (
        b"Content-Disposition: form-data; name=i; filename=\"a; filename*=UTF-8''b.jpg\"",
        "a; filename*=UTF-8''b.jpg",
    ),
    "the type of an image": (b'Content-Disposition: form-data; name="i"\r\nContent-Type: image/jpeg', None),
    "the type of bytes": (b"Content-Disposition: form-data; name=i\r\nContent-Type: application/octet-stream", None),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_form_is_an_image_by_its_name_or_its_type(part: str, server: Process, picture: bytes) -> None:
    headers, path = PARTS[part]
    body = b"--x\r\n" + headers + b"\r\n\r\n" + picture + b"\r\n--x--\r\n"
    response = server.post(body, "?crops=1", {"Content-Type": "multipart/form-data; boundary=x"})
    assert response.status == 200, response.body
    (found,) = response.json
    assert (found["path"], found["width"]) == (path, 640)


@pytest.mark.parametrize("kind", [b"", b"\r\nContent-Type: text/plain"])
def test_a_field_of_a_form_is_no_image(kind: bytes, server: Process) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="crops"' + kind + b"\r\n\r\n3\r\n--x--\r\n"
    response = server.post(body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert response.status == 400
    assert "the form's part 'crops' is not a file" in response.json["error"]["message"]
