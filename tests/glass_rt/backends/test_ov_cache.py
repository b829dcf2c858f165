"""What OpenVINO compiled, kept: the same bits with and without it, read only where it is whole, one's own and meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glass_rt import Detector
from glass_rt.backends import ov_cache
from glass_rt.backends.ov import load_openvino
from glass_rt.backends.ov_cache import MOST_FILES, CompiledModels
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import write_manifest
from glass_rt.machine.cache_files import CACHE_VARIABLE, keep_newest, write_cached
from tests.bench_zoo import write_bundle, write_picture
from tests.command_line import Cli

pytest.importorskip("openvino")


def openvino_bundle(folder: Path) -> Path:
    """The zoo's bundle with OpenVINO's engines."""
    manifest = Bundle.open(write_bundle(folder)).manifest
    core = load_openvino().Core()
    for role in manifest.model.roles:
        model = core.read_model(folder / f"{role}.onnx")
        for cast in [node for node in model.get_ops() if node.get_type_name() == "Convert"]:
            if cast.get_output_element_type(0) == cast.get_input_element_type(
                0
            ):  # it would leave its name to the input
                for target in cast.output(0).get_target_inputs():
                    target.replace_source_output(cast.input_value(0))
        load_openvino().save_model(model, folder / f"{role}.xml", compress_to_fp16=False)
        (folder / f"{role}.onnx").unlink()
    files = {role: f"{role}.xml" for role in manifest.model.roles}
    write_manifest(folder, replace(manifest, engine=replace(manifest.engine, backend="openvino", files=files)))
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "own"))
    core = load_openvino().Core()
    if "ENABLE_WEIGHTLESS" not in core.get_property("CPU", "SUPPORTED_PROPERTIES"):
        pytest.skip("this OpenVINO keeps weights in compiled models")
    return openvino_bundle(tmp_path / "bundle")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "picture.png", (90, 120, 30))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that were compiled rather than read from a cache, by name."""
    names = []
    compile_model = CompiledModels.compile

    def noted(self: CompiledModels, model: Any) -> Any:
        names.append(self._engine.name)
        return compile_model(self, model)

    monkeypatch.setattr(CompiledModels, "compile", noted)
    return names


def verdict(folder: Path, picture: Path, **run: Any) -> tuple[float, tuple[float, float], tuple[Any, ...]]:
    with Detector.open(folder, **run) as detector:
        found = detector.detect(picture)
    return found.probability_fake, found.logits, found.crops


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.compiled"))


def test_the_second_opening_reads_what_the_first_kept_and_gives_the_same_bits(
    folder: Path, picture: Path, compiled: list[str]
) -> None:
    without = verdict(folder, picture, cache=False)
    assert not kept(folder)
    assert verdict(folder, picture) == without
    assert sorted(compiled) == ["global.xml", "local.xml"]
    assert [path.parent.name for path in kept(folder)] == ["cache", "cache"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept(folder))
    assert verdict(folder, picture) == without
    assert len(compiled) == 2
    Bundle.open(folder, every_file=True)  # a cache is no foreign file


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turned(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shared(path: Path) -> None:
    path.chmod(0o666)


def nonsense(path: Path) -> None:
    """Whole by its hash, and nothing that OpenVINO takes."""
    write_cached(b"nonsense" * 100, [path])


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [cut, turned, shared, nonsense, gone])
def test_what_is_no_use_is_compiled_again(
    folder: Path, picture: Path, compiled: list[str], spoil: Callable[[Path], None]
) -> None:
    expected = verdict(folder, picture)
    for path in kept(folder):
        spoil(path)
    compiled.clear()
    assert verdict(folder, picture) == expected
    assert len(compiled) == 2
    compiled.clear()
    assert verdict(folder, picture) == expected  # it was put right
    assert not compiled


@pytest.mark.parametrize("other", ["processor", "version", "threads", "content"])
def test_another_machine_library_or_engine_has_its_own(
    folder: Path, picture: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    verdict(folder, picture, threads=1)
    compiled.clear()
    if other == "processor":
        monkeypatch.setattr(ov_cache, "cpu_fingerprint", lambda: "another")
    elif other == "version":
        monkeypatch.setattr(load_openvino(), "__version__", "2999.0")
    elif other == "content":
        path = folder / "global.xml"
        path.write_text(path.read_text() + "\n")
        write_manifest(folder, Bundle.open(write_bundle(folder.parent / "other")).manifest)
        manifest = Bundle.open(folder.parent / "other").manifest
        files = {role: f"{role}.xml" for role in manifest.model.roles}
        write_manifest(folder, replace(manifest, engine=replace(manifest.engine, backend="openvino", files=files)))
    verdict(folder, picture, threads=2 if other == "threads" else 1)
    assert len(compiled) == (1 if other == "content" else 2)


def test_under_a_pin_only_the_user_s_own_is_read(
    folder: Path, picture: Path, tmp_path: Path, compiled: list[str]
) -> None:
    expected = verdict(folder, picture)
    sha256 = Bundle.open(folder).sha256
    for path in kept(folder):
        nonsense(path)
    before = [path.read_bytes() for path in kept(folder)]
    for _ in range(2):
        assert verdict(folder, picture, expect_bundle=sha256) == expected
    assert len(compiled) == 4  # of the second opening under the pin, none
    assert [path.read_bytes() for path in kept(folder)] == before
    assert len(kept(tmp_path / "own")) == 2


def test_no_cache_on_the_command_line_leaves_nothing(cli: Cli, folder: Path, picture: Path, tmp_path: Path) -> None:
    done = cli("infer", picture, "--engine", folder, "--no-cache", "--csv")
    assert done.returncode == 0
    assert not kept(folder)
    assert not kept(tmp_path / "own")
    assert cli("infer", picture, "--engine", folder, "--csv").stdout == done.stdout
    assert len(kept(folder)) == 2


def test_a_cache_holds_so_many_models_and_no_more(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 3):
        (tmp_path / f"{number}.compiled").write_bytes(b"")
        os.utime(tmp_path / f"{number}.compiled", (number, number))
    (tmp_path / "other.timings").write_bytes(b"")
    keep_newest(tmp_path, ".compiled", MOST_FILES)
    assert len(kept(tmp_path)) == MOST_FILES
    assert not (tmp_path / "2.compiled").exists()
    assert (tmp_path / "other.timings").exists()
