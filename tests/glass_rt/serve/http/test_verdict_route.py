"""`POST /v1/verdict` gives what `infer --json` gives, and refuses with our messages."""

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from glass_rt import DetectOptions, Detector
from glass_rt.errors import ImageError
from glass_rt.image.encoded import load
from glass_rt.results.overlay import draw_overlay
from tests.serving import VERDICT, Address, form, same_verdict
from tests.support import Cli, write_picture


def test_an_image_gets_the_verdict_that_infer_prints(
    server: Address, judge: Detector, pictures: tuple[Path, ...], cli: Cli
) -> None:
    for path in pictures:
        response = server.post(path.read_bytes())
        assert response.status == 200, response.body
        assert response.headers["content-type"] == "application/json"
        assert same_verdict(response.json, judge.detect(path.read_bytes()))
    printed = json.loads(cli("infer", pictures[0], "--engine", judge.bundle.folder, "--json", "--quiet").stdout)
    response = server.post(pictures[0].read_bytes())
    assert list(response.json) == list(printed), "the same fields in the same order"
    assert same_verdict(response.json, printed)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tiff", ".avif"])
def test_every_format_is_taken_by_its_content(server: Address, judge: Detector, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    write_picture(path, np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8))
    response = server.post(path.read_bytes(), headers={"Content-Type": "text/plain"})
    assert same_verdict(response.json, judge.detect(path.read_bytes()))


def test_seed_and_crops_are_those_of_the_query(server: Address, judge: Detector, picture: bytes) -> None:
    response = server.post(picture, "?seed=606&crops=3")
    assert same_verdict(response.json, judge.detect(picture, DetectOptions(seed=606, crops=3)))
    assert len(response.json["crops"]) == 3
    most = 2**64 - 1
    response = server.post(picture, f"?seed={most}&crops=auto")
    assert same_verdict(response.json, judge.detect(picture, DetectOptions(seed=most, crops="auto")))


def test_a_form_gets_an_array_with_failures_in_their_place(
    server: Address, judge: Detector, pictures: tuple[Path, ...]
) -> None:
    good = [path.read_bytes() for path in pictures[:3]]
    body, headers = form(("a.jpg", good[0]), ("b.jpg", good[1][:300]), ("ü c.png", good[1]), ("d", b"no image"))
    response = server.post(body, "?seed=1", headers)
    assert response.status == 200
    first, second, third, fourth = response.json
    assert same_verdict(first, judge.detect(good[0], DetectOptions(seed=1)))
    assert same_verdict(third, judge.detect(good[1], DetectOptions(seed=1)))
    assert [result["path"] for result in response.json] == ["a.jpg", "b.jpg", "ü c.png", "d"]
    assert [second["error"]["kind"], fourth["error"]["kind"]] == ["corrupt", "format"]
    body, headers = form(("a.jpg", good[0]))
    assert len(server.post(body, "", headers).json) == 1, "the response to a form is always an array"


def test_the_evidence_picture_comes_with_the_verdict_that_it_shows(
    server: Address, judge: Detector, picture: bytes
) -> None:
    response = server.post(picture, "?overlay=1&seed=4").json
    jpeg = base64.b64decode(response["overlay_jpeg_base64"], validate=True)
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert shown is not None
    drawn = draw_overlay(load(picture).pixels, judge.detect(picture, DetectOptions(seed=4)))
    assert shown.shape == drawn.shape
    assert np.abs(shown.astype(int) - drawn).mean() < 4, "the same but for JPEG's loss"
    assert "overlay_jpeg_base64" not in server.post(picture, "?overlay=0").json


def test_curl_as_the_readme_shows_it(server: Address, judge: Detector, pictures: tuple[Path, ...]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    url = f"http://127.0.0.1:{server.port}{VERDICT}"
    one = subprocess.run(["curl", "-sS", "--data-binary", f"@{pictures[0]}", url], capture_output=True, check=True)
    assert same_verdict(json.loads(one.stdout), judge.detect(pictures[0].read_bytes()))
    several = [part for path in pictures[:2] for part in ("-F", f"image=@{path}")]
    two = subprocess.run(["curl", "-sS", *several, f"{url}?crops=2"], capture_output=True, check=True)
    for result, path in zip(json.loads(two.stdout), pictures, strict=False):
        assert result["path"] == path.name
        assert same_verdict(result, judge.detect(path.read_bytes(), DetectOptions(crops=2)))


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 415, "format"),
        (b"<html><body>hello</body></html>", 415, "format"),
        (b"http://127.0.0.1:1/image.png", 415, "format"),  # nothing is fetched
        (b"\xff\xd8\xff\xe0 cut off", 422, "corrupt"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x80\0\0\0\x80\0\x08\x02\0\0\0", 413, "too_large"),  # 32768 x 32768
    ],
)
def test_what_cannot_be_judged_is_refused_in_our_words(
    server: Address, judge: Detector, body: bytes, status: int, kind: str
) -> None:
    response = server.post(body)
    with pytest.raises(ImageError) as refused:
        judge.detect(body)
    assert response.status == status
    assert response.json == {
        "schema": 2,
        "path": None,
        "sha256": hashlib.sha256(body).hexdigest(),
        "error": {"kind": kind, "message": str(refused.value)},
    }


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?crop=3", "'crop' is unknown; choose from crops, seed, overlay"),
        ("?crops=0", "crops: got 0; at least one is needed"),
        ("?crops=21", "crops: got 21 in all; this server allows 20"),
        ("?crops=-1", "crops: got '-1'"),
        ("?crops=1&crops=2", "crops is given more than once"),
        ("?seed=18446744073709551616", "seed: got 18446744073709551616; expected 0..2^64-1"),
        ("?seed=%D9%A3", "seed: got"),  # an Arabic digit
        ("?overlay=yes", "overlay: got 'yes'; expected 0 or 1"),
    ],
)
def test_queries_that_make_no_sense_are_refused(server: Address, picture: bytes, query: str, words: str) -> None:
    response = server.post(picture, query)
    assert response.status == 400
    assert words in response.json["error"]["message"]


def test_other_paths_and_methods_are_refused_as_json(server: Address) -> None:
    assert server.get("/nowhere").status == 404
    assert server.get("/nowhere").json["error"]["message"].endswith("/openapi.json describes those that there are")
    wrong = server.get(VERDICT)
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json["error"]["message"] == "this route does not take GET, but POST"
    assert server.get("/v2/nowhere").json["error"].startswith("there is no such route")


def test_compressed_bodies_are_refused(server: Address, picture: bytes) -> None:
    response = server.post(picture, headers={"Content-Encoding": "gzip"})
    assert (response.status, response.json["error"]["kind"]) == (415, "content_encoding")


def test_hostile_files_get_what_infer_says_of_them(server: Address, judge: Detector, real_images: Path) -> None:
    """The server goes on, in bounded memory."""
    paths = sorted(path for path in (real_images / "hostile" / "selfmade").iterdir() if path.is_file())
    small = [path for path in paths if path.stat().st_size < 4 << 20]
    assert len(small) > 50
    results = list(judge.detect_many([path.read_bytes() for path in small], DetectOptions(crops=1)))
    for path, expected in zip(small, results, strict=True):
        response = server.post(path.read_bytes(), "?crops=1")
        told = expected.to_json()
        assert (response.status == 200) == ("error" not in told), path
        assert response.status in (200, 413, 415, 422), path
        assert response.json == told if "error" in told else same_verdict(response.json, told), path
    assert server.get("/readyz").status == 200
