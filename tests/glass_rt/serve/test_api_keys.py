"""API keys: of a file, of a request, and on a running server."""

from pathlib import Path

import pytest

from glass_rt.errors import UsageError
from glass_rt.serve.api_keys import api_key_of, check_api_key, read_api_keys
from glass_rt.serve.refusals import Unauthorized
from glass_rt.serve.settings import ServerSettings
from tests.serving import UNHURRIED_S, Plant, serving

KEYS = (b"correct-horse-battery", b"staple-of-the-second-kind")


def test_with_api_keys_only_those_who_have_one_come_in(plant: Plant, picture: bytes) -> None:
    with serving(plant, ServerSettings(api_keys=KEYS, deadline_s=UNHURRIED_S)) as here:
        refused = here.post(picture)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert here.post(picture, headers={"X-API-Key": "correct-horse-batter"}).status == 401
        assert here.post(picture, headers={"Authorization": "Basic correct-horse-battery"}).status == 401
        assert here.get("/metrics").status == 401
        assert here.get("/readyz").status == 200, "probes have no key"
        assert plant.engine.rows == 1, "nothing but the canary was judged"
        assert here.post(picture, headers={"X-API-Key": KEYS[0].decode()}).status == 200
        assert here.post(picture, headers={"Authorization": f"bearer {KEYS[1].decode()}"}).status == 200


def test_keys_are_compared_whole() -> None:
    check_api_key(KEYS[1], KEYS)
    check_api_key(None, ())
    for wrong in (None, b"", KEYS[0][:-1], KEYS[0] + b"x", KEYS[0] + KEYS[1], "schlüssel".encode()):
        with pytest.raises(Unauthorized):
            check_api_key(wrong, KEYS)


def test_the_key_header_comes_before_a_bearers() -> None:
    assert api_key_of([(b"x-api-key", b"a")]) == b"a"
    assert api_key_of([(b"authorization", b"Bearer  b ")]) == b"b"
    assert api_key_of([(b"authorization", b"Digest b")]) is None


def test_a_key_file_holds_one_key_per_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\ncorrect-horse-battery\n\n staple-of-the-second-kind \n")
    assert read_api_keys(path) == KEYS


@pytest.mark.parametrize(
    ("text", "words"), [("", "holds no key"), ("# only this\n", "holds no key"), ("short\n", "shorter than 16")]
)
def test_a_key_file_of_no_use_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_api_keys(path)


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_api_keys(tmp_path / "none")
