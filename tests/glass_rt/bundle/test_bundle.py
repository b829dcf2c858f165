"""A bundle is used only if it is, byte for byte, what its manifest says; a folder is written whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glass_rt.bundle.bundle import Bundle, PortableModel, find_bundle
from glass_rt.bundle.folder import MANIFEST, staged
from glass_rt.bundle.from_json import record_from_json
from glass_rt.errors import BuildError, BundleExists, BundleInvalid, BundleNotFound, GlassError, UsageError
from tests.support import Bundles


@dataclass(frozen=True)
class Ratio:
    ratio: float


@pytest.fixture
def copy(bundles: Bundles, tmp_path: Path) -> Path:
    """A bundle of one's own to damage."""
    return Path(shutil.copytree(bundles("mobilenet_v3_small").folder, tmp_path / "copy"))


def edit_manifest(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = manifest
        for parent in parents:
            target = target[parent]
        target[last] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_an_intact_bundle_opens(copy: Path) -> None:
    bundle = Bundle.open(copy, every_file=True)
    assert bundle.manifest.model.backbone == "mobilenet_v3_small"
    assert Bundle.open(copy, expect_sha256=bundle.sha256).sha256 == bundle.sha256
    assert PortableModel.open(copy).model == bundle.manifest.model


def test_a_pinned_bundle_cannot_be_exchanged(copy: Path) -> None:
    pinned = Bundle.open(copy).sha256
    edit_manifest(copy, threshold=0.1)
    with pytest.raises(BundleInvalid, match="is another bundle"):
        Bundle.open(copy, expect_sha256=pinned)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "local.onnx").unlink()
    with pytest.raises(BundleInvalid, match=r"local\.onnx is missing; rebuild"):
        Bundle.open(copy)


def test_an_altered_file_is_named(copy: Path) -> None:
    engine = copy / "global.onnx"
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    engine.write_bytes(data)
    with pytest.raises(BundleInvalid, match=r"global\.onnx was altered"):
        Bundle.open(copy)
    engine.write_bytes(data[:-1])
    with pytest.raises(BundleInvalid, match=r"global\.onnx has \d+ bytes"):
        Bundle.open(copy)


def test_a_foreign_file_is_refused_by_every_opener(copy: Path) -> None:
    (copy / "cache").mkdir()
    (copy / "cache" / "of a backend").touch()
    Bundle.open(copy)
    (copy / "extra.bin").write_bytes(b"?")
    for every_file in (False, True):
        with pytest.raises(BundleInvalid, match=r"does not list: extra\.bin"):
            Bundle.open(copy, every_file=every_file)
    (copy / "extra.bin").rename(copy / "model" / "extra.bin")
    with pytest.raises(BundleInvalid, match=r"does not list: extra\.bin"):
        PortableModel.open(copy)
    with pytest.raises(BundleInvalid, match=r"does not list: model/extra\.bin"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 99}, "schema 99; this glass-rt reads schemas 1 and 2"),
        ({"kind": "portable"}, "expected a 'bundle'"),
        ({"model__architecture": "vgg"}, "architecture"),
        ({"model__classes": ["cat", "dog"]}, "classes"),
        ({"model__embedding_dim": "576"}, r"model\.embedding_dim is '576'; expected an integer"),
        ({"model__weights__trained": 1}, r"model\.weights\.trained is 1"),
        ({"engine__files": {"global": "global.onnx"}}, r"engine\.files lacks local"),
        ({"engine__files": {"global": "../../etc/passwd", "local": "x"}}, "outside its folder"),
        ({"engine__files": {"global": "/etc/passwd", "local": "x"}}, "outside its folder"),
        ({"engine__files": {"global": "unlisted", "local": "local.onnx"}}, "not listed in the manifest"),
        ({"engine__max_batch": 0}, "at least 1"),
        ({"threshold": 7}, "threshold"),
        ({"parity__status": "fine"}, "expected one of passed, pending"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_manifest_that_is_wrong_is_refused_by_field(copy: Path, change: dict[str, Any], says: str) -> None:
    edit_manifest(copy, **change)
    with pytest.raises(GlassError, match=says):
        Bundle.open(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "bundle"}', "\x00\xff"])
def test_a_manifest_that_is_none_is_refused(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleInvalid, match=r"manifest\.json"):
        Bundle.open(copy)


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="no such folder"):
        Bundle.open(tmp_path / "absent")
    with pytest.raises(BundleNotFound, match="is not a glass-rt bundle"):
        Bundle.open(tmp_path)


def test_the_only_glass_bundle_is_found(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLASS_RT_ENGINE", raising=False)
    engines = tmp_path / "engines"
    engines.mkdir()
    with pytest.raises(BundleNotFound, match="glass-rt build --backbone"):
        find_bundle(None, under=engines)
    shutil.copytree(copy, engines / "one")
    resize = shutil.copytree(copy, engines / "baseline")
    edit_manifest(Path(resize), model__architecture="resize")
    assert find_bundle(None, under=engines) == engines / "one"
    shutil.copytree(copy, engines / "two")
    with pytest.raises(UsageError, match=r"one.*two"):
        find_bundle(None, under=engines)
    monkeypatch.setenv("GLASS_RT_ENGINE", str(engines / "two"))
    assert find_bundle(None, under=engines) == engines / "two"
    assert find_bundle("named", under=engines) == Path("named")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """A bundle-like folder with one old file; whatever happens, no temporary folder may stay beside it."""
    folder = tmp_path / "parent" / "target"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("old")
    yield folder
    assert [path.name for path in folder.parent.iterdir()] == ["target"]


def test_a_staged_folder_takes_the_place_of_the_old_one(target: Path) -> None:
    with staged(target, force=True) as folder:
        (folder / MANIFEST).write_text("new")
        assert (target / MANIFEST).read_text() == "old"
    assert (target / MANIFEST).read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_a_staged_folder_that_fails_leaves_the_old_one(target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), staged(target, force=True) as folder:
        (folder / MANIFEST).write_text("new")
        raise error
    assert (target / MANIFEST).read_text() == "old"


def test_an_existing_folder_is_replaced_only_on_demand(target: Path) -> None:
    with pytest.raises(BundleExists, match="--force replaces it"), staged(target, force=False):
        pass
    assert (target / MANIFEST).read_text() == "old"


def test_a_folder_of_somebody_elses_is_never_replaced(target: Path) -> None:
    (target / MANIFEST).rename(target / "holiday.jpg")
    with pytest.raises(BundleExists, match="not a glass-rt folder"), staged(target, force=True):
        pass
    assert (target / "holiday.jpg").exists()


def test_a_full_disk_is_said_to_be_full(target: Path) -> None:
    with pytest.raises(BuildError, match="no space left"), staged(target, force=True):
        raise OSError(28, "No space left on device")
    assert (target / MANIFEST).read_text() == "old"


def test_a_link_is_replaced_and_what_it_names_stays(target: Path) -> None:
    real = target.parent.parent / "real"
    target.rename(real)
    target.symlink_to(real)
    with staged(target, force=True) as folder:
        (folder / MANIFEST).write_text("new")
    assert not target.is_symlink()
    assert [(path / MANIFEST).read_text() for path in (target, real)] == ["new", "old"]


def test_an_input_that_may_not_be_read_is_not_blamed_on_the_output(target: Path) -> None:
    with pytest.raises(PermissionError, match=r"input\.bin"), staged(target, force=True):
        raise PermissionError(13, "Permission denied", "input.bin")
    with pytest.raises(BuildError, match="target cannot be written"), staged(target, force=True) as folder:
        raise PermissionError(13, "Permission denied", str(folder / "global.onnx"))


def test_an_integer_past_all_floats_is_refused_by_name(copy: Path) -> None:
    for path, place, values in (
        ("parity__logits", r"parity\.logits", 10**400),
        ("model__mean", r"model\.mean\[2\]", [0, 0, 10**400]),
    ):
        edit_manifest(copy, **{path: values})
        with pytest.raises(BundleInvalid, match=rf"{place} is 1000+; expected a number"):
            Bundle.open(copy)
        edit_manifest(copy, **{path: 0})
    with pytest.raises(BundleInvalid, match=r"ratio is 1000+; expected a number"):
        record_from_json(Ratio, {"ratio": 10**400}, "here")
