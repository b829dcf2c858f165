"""Both ways to start the kit run its whole list: `make gpu-check`, and the script for machines without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from glass_bench.gpu.check import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "gpu_check_offline.sh"

pytestmark = pytest.mark.skipif(sys.platform == "win32" or shutil.which("bash") is None, reason="needs bash")

# Writes down what it is asked, and makes an environment whose Python is this script again.
PYTHON = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$CALLS"
[ "$1" = -c ] && exit "$WITHOUT_TORCH"
[ "$2" = venv ] && { mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python"; }
[ "$2" = glass_bench.gpu.check ] && { echo "photographs: ${GPU_KIT_PHOTOS:-none}" >> "$CALLS"; exit "$KIT_ENDS"; }
exit 0
"""


def script(
    folder: Path, *arguments: object, without_torch: int = 1, kit_ends: int = 0
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "python3").write_text(PYTHON)
    (tools / "python3").chmod(0o755)
    calls = folder / "calls"
    calls.write_text("")
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(calls), "TMPDIR": str(folder),
        "WITHOUT_TORCH": str(without_torch), "KIT_ENDS": str(kit_ends),
    }  # fmt: skip
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done, calls.read_text().splitlines()


def test_the_script_installs_what_was_fetched_and_runs_the_whole_kit(tmp_path: Path) -> None:
    wheels, report = tmp_path / "the wheels", tmp_path / "the report"
    done, calls = script(tmp_path, "fetch", wheels, "cuda,jpeg", "nvidia-nvimgcodec-cu13[nvjpeg]")
    assert done.returncode == 0, done.stderr
    assert calls == [
        f"python3 -m pip wheel --quiet --wheel-dir {wheels} {REPOSITORY}[cuda,jpeg] nvidia-nvimgcodec-cu13[nvjpeg]"
    ]
    assert (wheels / "packages").read_text() == "glass-rt[cuda,jpeg]\nnvidia-nvimgcodec-cu13[nvjpeg]\n"

    (wheels / "photographs").mkdir()
    done, calls = script(tmp_path, "run", wheels, report, "--resume", kit_ends=1)
    assert done.returncode == 1, "the exit code is the kit's"
    assert calls[1].startswith("python3 -m venv /")
    assert calls[2] == (
        f"python -m pip install --quiet --no-index --find-links {wheels} --requirement {wheels / 'packages'}"
    )
    assert calls[3:] == [
        f"python -m glass_bench.gpu.check --output {report} --seconds 600 --resume",
        f"photographs: {wheels / 'photographs'}",
    ]
    assert not list(tmp_path.glob("tmp.*")), "the environment is gone"


def test_a_machine_that_has_pytorch_lends_it(tmp_path: Path) -> None:
    script(tmp_path, "fetch", tmp_path / "wheels")
    assert (tmp_path / "wheels" / "packages").read_text() == "glass-rt[tensorrt-rtx,cuda,jpeg,export]\n"
    done, calls = script(tmp_path, "run", tmp_path / "wheels", tmp_path / "report", without_torch=0)
    assert done.returncode == 0, done.stderr
    assert calls[1].startswith("python3 -m venv --system-site-packages /")
    assert calls[-1] == "photographs: none"


@pytest.mark.parametrize("arguments", [(), ("run", "wheels"), ("fetch",), ("fly", "wheels")])
def test_wrong_usage_is_told_what_is_right(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done, calls = script(tmp_path, *(str(tmp_path / word) if word == "wheels" else word for word in arguments))
    assert done.returncode == 2
    assert "gpu_check_offline.sh fetch WHEELS" in done.stdout
    assert not calls


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_runs_the_whole_kit() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--assume-old", "pyproject.toml", "gpu-check"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.rstrip().endswith("-m glass_bench.gpu.check --output gpu-check")
