"""Both engines of GLASS at work at once, and what the command line says of GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from glass_rt.backends.embedding import start_embedding
from glass_rt.cli.doctor import doctor
from tests.fake_gpu import FakeGpu
from tests.fake_trt import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_local_engine_is_started_while_the_global_one_works(bench: Bench) -> None:
    gpu = FakeGpu()
    engines = {role: bench.open(gpu, role=role) for role in ("global", "local")}
    views = {role: bench.views(20, role=role) for role in engines}
    gpu.calls.clear()
    waits = {role: start_embedding(engine, views[role], 16) for role, engine in engines.items()}
    assert gpu.calls.count("copy_in") == 4  # 20 views: two runs each
    assert not [call for call in gpu.calls if call.startswith("synchronize")], "nobody has waited for anything yet"
    for role, wait in waits.items():
        np.testing.assert_allclose(wait(), bench.expected(views[role]), atol=0.05)


def test_an_engine_that_cannot_be_left_is_run_here_and_now() -> None:
    runs = []

    class Plain:
        inputs = outputs = ()

        def run(self, feeds: Any) -> Any:
            runs.append(len(feeds["pixels"]))
            return {"embedding": np.zeros((len(feeds["pixels"]), 2), np.float32)}

        def close(self) -> None:
            pass

    wait = start_embedding(Plain(), np.zeros((5, 2, 2, 3), np.uint8), 2)
    assert runs == [2, 2, 1]
    assert wait().shape == (5, 2)
    assert runs == [2, 2, 1]


def test_doctor_says_the_gpu_path_in_one_screen(monkeypatch: Any) -> None:
    from glass_rt.cli import doctor as module

    monkeypatch.setattr(module, "gpus", lambda: ())
    lines = CliRunner().invoke(doctor, []).output.splitlines()
    assert len(lines) <= 40
    text = "\n".join(lines)
    for said in (
        "GPU       none", "pip install 'glass-rt[tensorrt-rtx,cuda]'", "pip install 'glass-rt[tensorrt,cuda]'",
        "--backend tensorrt_rtx --precision fp16", "glass-rt build --from BUNDLE --backend tensorrt", "cuda-core",
    ):  # fmt: skip
        assert said in text
