"""The OpenAPI document: valid, complete, and true of the responses of a running server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from glass_rt.detector import Detector
from glass_rt.errors import BackendError
from glass_rt.serve import app
from glass_rt.serve.http.openapi import openapi_document
from glass_rt.serve.http.status import STATUSES
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.oip.protocol import INPUTS, OUTPUTS
from glass_rt.serve.refusals import UnknownModel
from glass_rt.serve.service import Service
from glass_rt.serve.settings import ServerSettings
from glass_rt.version import __version__
from tests.serving import HttpResponse, Process

DOCUMENT = openapi_document()
SCHEMAS = DOCUMENT["components"]["schemas"]
NAME = "mobilenet_v3_small"
V2 = "/v2/models/{model}"
VERSIONED = f"{V2}/versions/{{version}}"


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


def check_response(method: str, path: str, response: HttpResponse) -> None:
    """The response has a status, type and body that the document has for the operation."""
    described = operation(method, path)["responses"][str(response.status)]
    if "$ref" in described:
        described = DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
    kind = response.headers["content-type"].partition(";")[0]
    schema = described["content"][kind]["schema"]
    if kind == "application/json":
        checked = {**schema, "components": DOCUMENT["components"]}
        jsonschema.Draft202012Validator(checked).validate(json.loads(response.body))
    for header in described["headers"]:
        assert header.lower() in response.headers or header == "Inference-Header-Content-Length"


def test_the_document_is_valid_and_of_this_version() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__


def test_every_route_is_described_and_nothing_else() -> None:
    def no_detector() -> Detector:
        raise BackendError("nothing is judged here")

    whole = app.create_app(Service(no_detector, ServerSettings(), Metrics()))
    routes = {
        (method.lower(), route.path)
        for route in whole.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert len(whole.routes) == len({path for _, path in routes})
    assert routes == {(method, path) for path, operations in DOCUMENT["paths"].items() for method in operations}


def test_every_error_of_the_table_is_described_where_images_are_judged() -> None:
    for path in ("/v1/verdict", f"{V2}/infer", f"{VERSIONED}/infer"):
        described = {int(status) for status in operation("post", path)["responses"]}
        possible = {int(status) for error, status in STATUSES.items() if path != "/v1/verdict" or error != UnknownModel}
        assert possible <= described


def test_tensors_are_those_of_the_protocol() -> None:
    assert SCHEMAS["RequestInput"]["properties"]["name"]["enum"] == [tensor.name for tensor in INPUTS]
    for schema in ("RequestOutput", "ResponseOutput"):
        assert SCHEMAS[schema]["properties"]["name"]["enum"] == [tensor.name for tensor in OUTPUTS]


def test_it_says_which_paths_need_a_key() -> None:
    described = {
        path for path, methods in DOCUMENT["paths"].items() if not all(o["security"] for o in methods.values())
    }
    assert described == app.OPEN_PATHS


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/", "/"),
        ("/openapi.json", "/openapi.json"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/v2", "/v2"),
        ("/v2/health/live", "/v2/health/live"),
        ("/v2/health/ready", "/v2/health/ready"),
        (V2, "/v2/models/mobilenet_v3_small"),
        (V2, "/v2/models/another"),
        (VERSIONED, "/v2/models/mobilenet_v3_small/versions/1"),
        (VERSIONED, "/v2/models/mobilenet_v3_small/versions/9"),
        (f"{V2}/ready", "/v2/models/mobilenet_v3_small/ready"),
        (f"{V2}/ready", "/v2/models/another/ready"),
        ("/v2/models/stats", "/v2/models/stats"),
        *((f"{V2}/{what}", f"/v2/models/{name}/{what}") for what in ("config", "stats") for name in (NAME, "another")),
        *((f"{VERSIONED}/{what}", f"/v2/models/{NAME}/versions/1/{what}") for what in ("config", "stats")),
        (f"{VERSIONED}/ready", "/v2/models/mobilenet_v3_small/versions/1/ready"),
        (f"{VERSIONED}/ready", "/v2/models/mobilenet_v3_small/versions/9/ready"),
    ],
)
def test_what_is_read_is_as_described(whole_server: Process, path: str, url: str) -> None:
    check_response("GET", path, whole_server.ask("GET", url))


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 200), (b'{"ready": true}', 200), (b'{"ready": 1}', 400), (b"[]", 400), (bytes(5000), 400)],
)
def test_the_index_is_as_described(whole_server: Process, body: bytes, status: int) -> None:
    response = whole_server.ask("POST", "/v2/repository/index", body)
    assert response.status == status
    check_response("POST", "/v2/repository/index", response)


@pytest.mark.parametrize("query", ["", "?crops=1", "?crops=auto&seed=7", "?overlay=1"])
def test_verdicts_are_as_described(whole_server: Process, pictures: tuple[Path, ...], query: str) -> None:
    for path in pictures[4:]:
        response = whole_server.ask("POST", f"/v1/verdict{query}", path.read_bytes())
        assert response.status == 200
        assert ("overlay_jpeg_base64" in json.loads(response.body)) == ("overlay" in query)
        check_response("POST", "/v1/verdict", response)


def form(*files: bytes) -> tuple[bytes, dict[str, str]]:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="%d.jpg"\r\n\r\n%s\r\n' % (number, data)
        for number, data in enumerate(files)
    ]
    return b"".join(parts) + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def test_a_forms_verdicts_and_failures_are_as_described(whole_server: Process, pictures: tuple[Path, ...]) -> None:
    body, headers = form(pictures[5].read_bytes(), b"no image")
    response = whole_server.ask("POST", "/v1/verdict", body, headers)
    assert response.status == 200
    assert [set(result) >= {"label"} for result in json.loads(response.body)] == [True, False]
    check_response("POST", "/v1/verdict", response)


@pytest.mark.parametrize(
    ("query", "body", "headers", "status"),
    [
        ("", b"no image", {}, 415),
        ("", b"", {}, 415),
        ("?crops=none", b"", {}, 400),
        ("", b"", {"Content-Encoding": "gzip"}, 415),
        ("", b'{"picture": ""}', {}, 400),
        ("", b"", {"Content-Length": str(1 << 40)}, 413),
    ],
)
def test_refusals_are_as_described(
    whole_server: Process, query: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    response = whole_server.ask("POST", f"/v1/verdict{query}", body, headers)
    assert response.status == status
    check_response("POST", "/v1/verdict", response)


def test_a_damaged_images_refusal_is_as_described(whole_server: Process, pictures: tuple[Path, ...]) -> None:
    cut = pictures[2].read_bytes()[:-500]
    response = whole_server.ask("POST", "/v1/verdict", cut)
    assert response.status == 422
    check_response("POST", "/v1/verdict", response)
    body = infer_request(cut)
    refused = whole_server.ask("POST", "/v2/models/mobilenet_v3_small/infer", body)
    assert refused.status == 422
    check_response("POST", f"{V2}/infer", refused)


def infer_request(image: bytes, **more: Any) -> bytes:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [base64.b64encode(image).decode()]}
    return json.dumps({"inputs": [tensor], **more}).encode()


@pytest.mark.parametrize("path", [f"{V2}/infer", f"{VERSIONED}/infer"])
def test_inference_is_as_described(whole_server: Process, pictures: tuple[Path, ...], path: str) -> None:
    url = path.format(model="mobilenet_v3_small", version="1")
    image = pictures[5].read_bytes()
    validator = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/InferRequest", "components": DOCUMENT["components"]}
    )
    for more in (
        {},
        {"id": "7", "parameters": {"crops": 2, "seed": "9"}},
        {"outputs": [{"name": "label"}, {"name": "boxes", "parameters": {"binary_data": False}}]},
    ):
        body = infer_request(image, **more)
        validator.validate(json.loads(body))
        response = whole_server.ask("POST", url, body)
        assert response.status == 200
        check_response("POST", path, response)
    binary = whole_server.ask("POST", url, infer_request(image, parameters={"binary_data_output": True}))
    check_response("POST", path, binary)
    length = int(binary.headers["inference-header-content-length"])
    schema = {"$ref": "#/components/schemas/InferResponse", "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(binary.body[:length]))
    for asked, body, status in ((url, b"{", 400), (url.replace("mobilenet_v3_small", "another"), b"{}", 404)):
        response = whole_server.ask("POST", asked, body)
        assert response.status == status
        check_response("POST", path, response)
