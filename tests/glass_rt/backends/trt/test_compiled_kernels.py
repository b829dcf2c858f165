"""What TensorRT for RTX compiles at the first run and keeps, and what it says of a plan, on a GPU in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.bundle.checked_files import CheckedFiles, EngineFile
from glass_rt.bundle.folder import sha256_of
from glass_rt.bundle.manifest import FileEntry
from glass_rt.errors import BackendError, BundleInvalid
from glass_rt.machine.cache_files import CACHE_VARIABLE, read_cached
from tests.fake_gpu import FakeGpu

MOST = 64


def run(backend: Any, views: Any) -> Any:
    return backend.run({"pixels": views})["embedding"]


def test_rtx_captures_by_itself_and_keeps_what_it_compiled(bench: Any) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu, "tensorrt_rtx 1.7.1")
    for _ in range(4):
        run(backend, bench.views(MOST))
    assert "capture" not in gpu.calls
    backend.close()
    (file,) = (bench.folder / "cache").iterdir()
    assert read_cached([file]) == b"compiled for this GPU"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert bench.faults.pop("cache read") == b"compiled for this GPU"
    file.chmod(0o666)  # another user could have put code there
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert "cache read" not in bench.faults


def test_under_a_pin_what_lies_in_the_bundles_cache_is_not_read(
    bench: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    monkeypatch.setenv(CACHE_VARIABLE, str(mine))
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    (beside,) = (bench.folder / "cache").iterdir()
    path = bench.folder / "local.plan"
    entries = {path.name: FileEntry(path.stat().st_size, sha256_of(path))}

    def open_pinned() -> None:
        engine = EngineFile(path, CheckedFiles(bench.folder, entries, pinned=True), path.name)
        gpu = FakeGpu()
        TrtBackend(engine, bench.library("tensorrt_rtx 1.7.1", gpu), gpu).close()

    open_pinned()
    assert "cache read" not in bench.faults
    (own,) = (mine / "kernels").iterdir()
    beside.unlink()
    open_pinned()
    assert bench.faults.pop("cache read") == b"compiled for this GPU"
    assert own.stat().st_mode & 0o077 == 0
    assert list((bench.folder / "cache").iterdir()) == []
    path.write_bytes(path.read_bytes().replace(b"16", b"17"))
    with pytest.raises(BundleInvalid, match=r"local\.plan was altered"):
        open_pinned()


def test_what_was_compiled_and_damaged_is_compiled_again(bench: Any) -> None:
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    (file,) = (bench.folder / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert "cache read" not in bench.faults
    assert read_cached([file]) == b"compiled for this GPU"


@pytest.mark.parametrize("close_at_once", [False, True])
def test_a_cache_that_the_library_does_not_hand_over_costs_the_cache_alone(bench: Any, close_at_once: bool) -> None:
    gpu = FakeGpu()
    backend = bench.open(gpu, "tensorrt_rtx 1.7.1")
    bench.faults["refuse cache"] = True
    if not close_at_once:
        assert backend.warm() == 0
        views = bench.views(5)
        np.testing.assert_allclose(run(backend, views), bench.expected(views), atol=0.05)
    backend.close()
    assert gpu.live == {}
    assert gpu.closed
    assert not (bench.folder / "cache").exists()


def test_beside_a_bundle_that_cannot_be_written_the_users_cache_is_used(
    bench: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    monkeypatch.setenv(CACHE_VARIABLE, str(mine))
    (bench.folder / "cache").write_bytes(b"")  # a file in place of the folder: even root cannot write there
    monkeypatch.setattr("os.access", lambda *_: False)
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    (file,) = (mine / "kernels").iterdir()
    assert read_cached([file]) == b"compiled for this GPU"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert bench.faults.pop("cache read") == b"compiled for this GPU"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1", profiles=((1, 10, 16),)).close()
    assert "cache read" not in bench.faults, "another engine's kernels are not this one's"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (1, "VERSION_MISMATCH): build it again"), (2, "UNSUPPORTED_CC): build it with"), (4, "OLD_CUDA_DRIVER): update"),
        (8, "OLD_CUDA_RUNTIME): update"), (16, "INSUFFICIENT_GPU_MEMORY): build it with a smaller --max-batch"),
        (32, "MALFORMED_ENGINE): build"), (64, "CUDA_ERROR): see"), (6, "UNSUPPORTED_CC): build it with --backend tensorrt; the NVIDIA driver"),
    ],
)  # fmt: skip
def test_rtx_is_asked_whether_it_can_run_a_plan_before_it_reads_it(bench: Any, found: int, words: str) -> None:
    bench.faults["diagnosis"] = found
    with pytest.raises(BackendError, match=r"cannot run .*local\.plan here: ") as caught:
        bench.open(FakeGpu(), "tensorrt_rtx 1.7.1")
    assert words in str(caught.value)


def test_an_engine_that_might_be_faster_runs_and_a_line_says_so(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.faults["validity"] = "SUBOPTIMAL"
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert "not as fast as it might" in caplog.text


def test_rtx_compiles_a_shapes_kernels_before_its_first_run(bench: Any) -> None:
    """Else the parity gate would judge the general kernels, and later runs would use others."""
    bench.open(FakeGpu(), "tensorrt_rtx 1.7.1").close()
    assert bench.faults["specialisation"] == "EAGER"


def test_what_the_library_warns_of_is_logged_although_all_goes_well(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    library = bench.library("tensorrt 11.4.0", FakeGpu())
    with library.explained(BackendError, "nothing goes wrong"):
        library.logger.log(2, "Using an engine plan file across different models of devices is not supported")
    assert "tensorrt: Using an engine plan file across different models" in caplog.text
