"""Images and results in an object store: a real S3 client against a local server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from glass_rt.bulk.sources import find_sources
from glass_rt.bulk.stores import Stores, locate, split_options
from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import GlassError, ImageNotReadable
from tests.glass_rt.bulk.expected import assert_same, inferred
from tests.glass_rt.bulk.running import run_bulk, wait_until

pytest.importorskip("moto.server", reason="needs moto[s3,server], a local S3 server")
KEYS = ("a b.jpg", "deep/ä#1%20.jpg", "deep/b+c.jpg")


@pytest.fixture(scope="module")
def options() -> Iterator[str]:
    """The options by which pyarrow reaches the test's server, as the query of a URI."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:

        def is_up() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(is_up)
        yield f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def stores(options: str, photographs: tuple[Path, ...]) -> Stores:
    """A bucket `photos` with images, under awkward keys, and something else in it."""
    _, roots = split_options(f"s3://test:test@photos?{options}")
    stores = Stores(roots)
    files, _ = stores.open(locate("s3://photos/x"))
    files.create_dir("photos")
    for key, path in zip(KEYS, photographs, strict=False):
        stores.write(locate(f"s3://photos/album/{key}"), path.read_bytes())
    stores.write(locate("s3://photos/album/readme.md"), b"no image")
    stores.write(locate("s3://photos/album/deep/.hidden.jpg"), b"hidden")
    return stores


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("s3://photos/album", KEYS),
        ("s3://photos/album/", KEYS),
        ("s3://photos/album/deep/*.jpg", (".hidden.jpg", *KEYS[1:])),
        ("s3://photos/album/**/a*.jpg", KEYS[:1]),
        ("s3://photos/album/[ab] b.jpg", KEYS[:1]),
        ("s3://photos/album/a b.jpg", KEYS[:1]),
    ],
)
def test_folders_patterns_and_keys_of_a_store_name_images(
    stores: Stores, argument: str, found: tuple[str, ...]
) -> None:
    names = [str(name).removeprefix("s3://photos/album/") for name in find_sources([argument], stores)]
    assert sorted(name.removeprefix("deep/") for name in names) == sorted(name.removeprefix("deep/") for name in found)


def test_what_is_not_there_is_said(stores: Stores) -> None:
    with pytest.raises(GlassError, match="nothing to judge is found there"):
        list(find_sources(["s3://photos/nowhere"], stores))
    with pytest.raises(ImageNotReadable, match="no such file"):
        stores.read(locate("s3://photos/album/absent.jpg"))


@pytest.mark.ray
def test_a_job_reads_from_a_store_and_writes_to_it(
    stores: Stores, options: str, bundle: Bundle, photographs: tuple[Path, ...], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("s3://photos/album/absent.jpg\n")
    arguments: tuple[Any, ...] = (
        f"s3://test:test@photos/album?{options}", tmp_path / "list.txt", "--output", "s3://photos/out",
        "--engine", bundle.folder, "--workers", 1, "--part-images", 2,
    )  # fmt: skip
    said = run_bulk(*arguments, code=1)
    assert (said["images"], said["failed"]) == (4, 1)
    files, folder = stores.open(locate("s3://photos/out"))
    rows = {row["path"]: row for row in pq.read_table(folder, filesystem=files).to_pylist()}
    assert rows.pop("s3://photos/album/absent.jpg")["error"] == "no such file"
    assert sorted(rows) == sorted(f"s3://photos/album/{key}" for key in KEYS)
    for key, verdict in zip(KEYS, inferred(bundle, list(photographs[:3])), strict=True):
        assert_same(rows[f"s3://photos/album/{key}"], verdict)
    written = stores.read(locate("s3://photos/out/_glass_rt/plan.json"))
    assert b"test:test" not in written  # credentials are nowhere in the output
    assert b"endpoint" not in written
    resumed = run_bulk(*arguments, "--resume", code=1)
    assert (resumed["before"], resumed["failed"]) == (4, 1)
