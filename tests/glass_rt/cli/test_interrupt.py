"""Ctrl-C while a command is still importing: "interrupted", and 130."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Bundles

# Interrupts itself when the module is looked for the first time.
CODE = """
import os, signal, sys

class Interrupt:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(Interrupt)
            os.kill(os.getpid(), signal.SIGINT)

module, *arguments = sys.argv[1:]
sys.argv = ["glass-rt", *arguments]
sys.meta_path.insert(0, Interrupt)
from glass_rt.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("glass_rt.cli", ["--version"]),
        ("click", ["--help"]),
        ("click.core", ["--help"]),
        ("glass_rt.machine.environment", ["--version"]),
        ("glass_bench.command", ["--help"]),
        ("numpy", ["infer", "x", "--engine", "{bundle}"]),
        ("numpy._core._multiarray_umath", ["infer", "x", "--engine", "{bundle}"]),
        ("cv2", ["infer", "x", "--engine", "{bundle}"]),
        ("onnxruntime", ["infer", "x", "--engine", "{bundle}"]),
        ("onnxruntime.capi.onnxruntime_pybind11_state", ["infer", "x", "--engine", "{bundle}"]),
        ("pyarrow", ["infer", "x", "--engine", "{bundle}", "--output", "r.parquet"]),
        ("glass_rt.cli.serve", ["serve", "--engine", "{bundle}", "--port", "0"]),
        ("starlette", ["serve", "--engine", "{bundle}", "--port", "0"]),
        ("uvicorn", ["serve", "--engine", "{bundle}", "--port", "0"]),
        ("glass_engines.build", ["build", "--from", "{bundle}"]),
        ("torch", ["build", "--backbone", "resnet18"]),
        ("torch._C", ["build", "--backbone", "resnet18"]),
        ("glass_rt.cli.inspect", ["inspect", "{bundle}"]),
        ("onnxruntime", ["verify", "{bundle}"]),
        ("pyarrow", ["bulk", "x", "--engine", "{bundle}", "--output", "out"]),
        ("sklearn", ["eval", "x", "--engine", "{bundle}"]),
    ],
)
def test_ctrl_c_while_importing(module: str, arguments: list[str], bundles: Bundles, tmp_path: Path) -> None:
    bundle = str(bundles("mobilenet_v3_small").folder)
    (tmp_path / "x").mkdir()
    words = [word.format(bundle=bundle) for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", CODE, module, *words], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.stderr.endswith("interrupted\n")
    assert "Traceback" not in done.stderr
    assert done.returncode == 130
