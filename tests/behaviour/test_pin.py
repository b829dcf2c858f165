"""Under `--expect-bundle` nothing but the pinned bytes decides a verdict; unlisted files are never read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from glass_rt.bundle.bundle import HEAD, Bundle, PortableModel
from glass_rt.bundle.checked_files import CheckedFiles
from glass_rt.bundle.folder import MANIFEST, sha256_of, write_manifest
from glass_rt.bundle.manifest import FileEntry, Parity, PortableManifest
from glass_rt.detector import Detector
from glass_rt.errors import BundleInvalid, ParityError
from glass_rt.inference.engines import open_engines
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pending_parity import RECORD, known_parity
from glass_rt.machine.cache_files import CACHE_VARIABLE
from glass_rt.machine.environment import installed
from glass_rt.machine.regular_file import RegularFile
from glass_rt.options import RunOptions
from tests.bench_zoo import write_bundle, write_picture

PINNED = (False, True)
Edit = Callable[[onnx.ModelProto], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "user's cache"))
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "red.png", (180, 60, 60))


def relisted(folder: Path, graph: onnx.ModelProto) -> str:
    """Writes `global.onnx`, lists the files as they are now, and returns the bundle's SHA-256."""
    manifest = Bundle.open(folder).manifest
    (folder / "global.onnx").write_bytes(graph.SerializeToString())
    write_manifest(folder, manifest)
    return sha256_of(folder / MANIFEST)


def external(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3, 4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_initialisers(location: str) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
        weights.CopyFrom(external("weights", location))

    return edit


def in_a_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external("c", "global.data")))


def in_a_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [external("deep", "global.data")])
    for _ in range(20):
        branch = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=branch)], "more", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


def in_a_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=external("c", "global.data"))
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 17)]))


def in_a_sparse_initialiser(model: onnx.ModelProto) -> None:
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(external("s", "global.data"), indices, [12]))


@pytest.mark.parametrize("pinned", PINNED)
@pytest.mark.parametrize(
    "edit",
    [
        in_initialisers("global.data"),
        in_initialisers("../outside.data"),
        in_initialisers("./cache/global.data"),
        in_initialisers("/etc/hostname"),
        in_initialisers("*/_ORT_MEM_ADDR_/*"),
        in_a_constant,
        in_a_branch,
        in_a_function,
        in_a_sparse_initialiser,
    ],
    ids=["beside", "outside", "cache", "absolute", "memory", "constant", "branch", "function", "sparse"],
)
def test_weights_in_files_that_are_not_listed_are_refused(folder: Path, edit: Edit, pinned: bool) -> None:
    for place in (folder / "cache" / "global.data", folder.parent / "outside.data"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(bytes(48))
    graph = onnx.load(folder / "global.onnx")
    edit(graph)
    sha256 = relisted(folder, graph)
    with pytest.raises(BundleInvalid, match=r"global\.onnx takes weights from '.*', which the manifest does not list"):
        Bundle.open(folder, expect_sha256=sha256 if pinned else None)


@pytest.mark.parametrize("pinned", PINNED)
def test_weights_in_files_that_are_listed_are_compared_and_read(folder: Path, picture: Path, pinned: bool) -> None:
    with Detector.open(folder) as detector:
        expected = detector.detect(picture).probability_fake
    manifest, graph = Bundle.open(folder).manifest, onnx.load(folder / "global.onnx")
    weights = next(tensor for tensor in graph.graph.initializer if tensor.name == "weights")
    content = weights.raw_data
    (folder / "global.data").write_bytes(content)
    in_initialisers("global.data")(graph)
    (folder / "global.onnx").write_bytes(graph.SerializeToString())
    write_manifest(folder, manifest)
    pin = Bundle.open(folder).sha256 if pinned else None
    with Detector.open(folder, expect_bundle=pin) as detector:
        assert detector.detect(picture).probability_fake == pytest.approx(expected, abs=1e-6)
    (folder / "global.data").write_bytes(content[::-1])
    with pytest.raises(BundleInvalid, match=r"global\.data was altered"):
        Detector.open(folder, expect_bundle=pin)


def test_a_portable_model_takes_no_weights_from_unlisted_files(tmp_path: Path, folder: Path) -> None:
    model, target = Bundle.open(folder).manifest.model, tmp_path / "portable"
    target.mkdir()
    graph = onnx.load(folder / "global.onnx")
    in_initialisers("../outside.data")(graph)
    (target / "global.onnx").write_bytes(graph.SerializeToString())
    write_manifest(target, PortableManifest(model, {"fp32": {"global": "global.onnx"}}, {}))
    with pytest.raises(BundleInvalid, match="takes weights from"):
        PortableModel.open(target)


def test_an_engine_written_over_after_the_check_is_refused_under_the_pin(folder: Path) -> None:
    bundle = Bundle.open(folder, expect_sha256=Bundle.open(folder).sha256)
    content = (folder / "global.onnx").read_bytes()
    with (folder / "global.onnx").open("r+b") as file:  # the same file, in place
        file.seek(content.index(b"weights"))
        file.write(b"WEIGHTS")
    with pytest.raises(BundleInvalid, match=r"global\.onnx was altered"):
        open_engines(bundle)


def test_an_engine_written_over_after_opening_changes_no_verdict_under_the_pin(folder: Path, picture: Path) -> None:
    with Detector.open(folder, expect_bundle=Bundle.open(folder).sha256) as detector:
        before = detector.detect(picture).probability_fake
        for path in folder.glob("*.*"):
            path.write_bytes(bytes(path.stat().st_size))
        assert detector.detect(picture).probability_fake == before


@pytest.mark.parametrize("pinned", PINNED)
def test_files_exchanged_after_the_check_are_not_the_ones_that_are_opened(
    folder: Path, picture: Path, pinned: bool
) -> None:
    """The descriptors that were compared are the ones that are handed over."""
    with Detector.open(folder) as detector:
        expected = detector.detect(picture).probability_fake
    bundle = Bundle.open(folder, expect_sha256=Bundle.open(folder).sha256 if pinned else None)
    impostor = write_bundle(folder.parent / "impostor", fault="wrong")
    for name in ("global.onnx", "local.onnx", HEAD):
        (impostor / name).replace(folder / name)
    with Detector.from_bundle(bundle) as detector:
        assert detector.detect(picture).probability_fake == expected
    with pytest.raises(BundleInvalid, match=r"was altered|has .* bytes"):
        Detector.from_bundle(bundle)


def test_a_folder_exchanged_after_the_check_is_not_the_one_that_is_opened(folder: Path, picture: Path) -> None:
    with Detector.open(folder) as detector:
        expected = detector.detect(picture).probability_fake
    bundle = Bundle.open(folder, expect_sha256=Bundle.open(folder).sha256)
    folder.rename(folder.parent / "away")
    write_bundle(folder, fault="wrong", classes=("real", "fake"))
    with Detector.from_bundle(bundle) as detector:
        assert detector.detect(picture).probability_fake == expected


def test_a_file_that_grows_while_it_is_compared_is_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "engine"
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)  # as if it had grown after its size was seen
    monkeypatch.setattr(RegularFile, "size", 5)
    files = CheckedFiles(tmp_path, {"engine": FileEntry(5, "0" * 64)})
    with pytest.raises(BundleInvalid, match="was altered"):
        files.check(["engine"])


def test_a_file_that_is_cut_while_it_is_compared_is_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engine").write_bytes(b"1234")
    monkeypatch.setattr(RegularFile, "size", 5)
    files = CheckedFiles(tmp_path, {"engine": FileEntry(5, "0" * 64)}, pinned=True)
    with pytest.raises(BundleInvalid, match="was altered"):
        files.open("engine")


def test_links_are_followed_to_what_is_compared(folder: Path, picture: Path) -> None:
    pin = Bundle.open(folder).sha256
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    (folder.parent / "link").symlink_to(folder)
    with Detector.open(folder.parent / "link", expect_bundle=pin) as detector:
        assert detector.detect(picture).label == "fake"


def test_under_a_pin_the_noted_parity_of_the_bundles_cache_is_not_read(folder: Path) -> None:
    """The record says that engines passed which compute something else."""
    wrong = write_bundle(folder.parent / "wrong", fault="wrong")
    write_manifest(wrong, replace(Bundle.open(wrong).manifest, parity=Parity("pending")))
    unpinned = Bundle.open(wrong)
    figures = {"embedding": 0, "logits": 0, "embedding_tolerance": 1, "logits_tolerance": 1}
    (wrong / "cache").mkdir()
    here = {"gpu": None, "library": f"onnxruntime {installed('onnxruntime')}"}
    record = {"status": "passed", "bundle_sha256": unpinned.sha256, **here, **figures}
    (wrong / RECORD).write_text(json.dumps(record))
    assert known_parity(unpinned).status == "passed"
    pinned = Bundle.open(wrong, expect_sha256=unpinned.sha256)
    assert known_parity(pinned).status == "pending"
    with pytest.raises(ParityError):
        open_engines(pinned)


def test_under_a_pin_parity_is_noted_in_the_users_cache(folder: Path, tmp_path: Path) -> None:
    write_manifest(folder, replace(Bundle.open(folder).manifest, parity=Parity("pending")))
    pinned = Bundle.open(folder, expect_sha256=Bundle.open(folder).sha256)
    OpenedBundle.open(pinned, RunOptions()).close()
    assert known_parity(pinned).status == "passed"
    assert not (folder / "cache").exists()
    (record,) = (tmp_path / "user's cache" / "parity").iterdir()
    assert record.stat().st_mode & 0o077 == 0
    shutil.rmtree(record.parent)
    assert known_parity(pinned).status == "pending"
