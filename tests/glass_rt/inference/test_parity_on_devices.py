"""Parity that passed on one device says nothing of another: the gate is passed, and its outcome kept, for each."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from glass_rt.backends import Backend
from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import ParityError
from glass_rt.inference.engines import open_engines
from glass_rt.inference.pending_parity import RECORD, known_parity, resolve_parity
from tests.bench_zoo import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_bundle(tmp_path / "zoo"))


@pytest.fixture
def engines(bundle: Bundle) -> Iterator[Mapping[str, Backend]]:
    opened = open_engines(bundle)
    yield opened
    for engine in opened.values():
        engine.close()


def status(bundle: Bundle, device: str | None) -> str:
    return known_parity(bundle, device).status


def test_an_outcome_holds_for_the_device_that_it_was_found_on(bundle: Bundle, engines: Mapping[str, Backend]) -> None:
    assert (status(bundle, None), status(bundle, "cpu")) == ("passed", "passed")  # at the build
    assert status(bundle, "dml:1") == "pending"
    assert resolve_parity(bundle, engines, "dml:1").status == "passed"
    others = ("dml", "dml:0", "dml:1+cpu", "dml:1,option=2", "coreml", "plugin:webgpu", "cuda", "cuda,use_tf32=1")
    found = {device: status(bundle, device) for device in ("dml:1", *others)}
    assert found == {"dml:1": "passed", **dict.fromkeys(others, "pending")}


def test_options_of_the_same_device_are_another_device(bundle: Bundle, engines: Mapping[str, Backend]) -> None:
    """Those of CUDA can change what is computed, too."""
    assert resolve_parity(bundle, engines, "cuda,use_tf32=1").status == "passed"
    assert (status(bundle, "cuda,use_tf32=1"), status(bundle, "cuda")) == ("passed", "pending")


def test_another_version_of_a_plugin_passes_the_gate_again(
    bundle: Bundle, engines: Mapping[str, Backend], tmp_path: Path
) -> None:
    library = tmp_path / "libnpu.so"
    library.write_bytes(b"first")
    resolve_parity(bundle, engines, f"plugin:{library}")
    assert status(bundle, f"plugin:{library}") == "passed"
    library.write_bytes(b"second")
    assert status(bundle, f"plugin:{library}") == "pending"


def test_another_system_passes_the_gate_again(
    bundle: Bundle, engines: Mapping[str, Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core ML and DirectML come with it."""
    resolve_parity(bundle, engines, "coreml")
    monkeypatch.setattr(platform, "platform", lambda: "macOS-99.9-arm64")
    assert status(bundle, "coreml") == "pending"


def test_records_of_cpus_and_gpus_are_those_that_were_written_before(
    bundle: Bundle, engines: Mapping[str, Backend]
) -> None:
    resolve_parity(bundle, engines, "cuda:0")
    assert "device" not in json.loads((bundle.folder / RECORD).read_text("utf-8"))
    assert status(bundle, "cuda:0") == "passed"


@pytest.mark.parametrize("content", ["[]", '"x"', '{"status": "passed", "device": []}'])
def test_a_record_that_is_none_is_passed_over(bundle: Bundle, content: str) -> None:
    path = bundle.folder / RECORD
    path.parent.mkdir()
    path.write_text(content)
    assert status(bundle, "dml") == "pending"


def test_engines_that_compute_something_else_there_are_refused_with_the_way_out(tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "wrong", fault="wrong"))
    with pytest.raises(ParityError, match=r"what PyTorch computes on dml: .* Run it on another device: --device cpu"):
        resolve_parity(bundle, open_engines(bundle), "dml")
