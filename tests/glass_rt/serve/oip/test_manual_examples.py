"""The manual's examples of the protocol, against a running server: what they print is the verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glass_rt import DetectOptions, Detector
from tests.docs.blocks import ROOT, blocks_of
from tests.serving import Process

PAGE = ROOT / "docs" / "guides" / "clients.md"


@pytest.fixture
def folder(tmp_path: Path, pictures: tuple[Path, ...]) -> Path:
    shutil.copy(pictures[4], tmp_path / "photo.jpg")
    return tmp_path


def example(language: str, word: str) -> str:
    """The only code block of the page that contains the word."""
    (found,) = [block.text for block in blocks_of(PAGE) if block.language == language and word in block.text]
    return found.replace("vit_b16", "mobilenet_v3_small")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_client_in_python_prints_the_verdict(
    protocol: str, folder: Path, whole_server: Process, judge: Detector
) -> None:
    pytest.importorskip("tritonclient.grpc")
    code = example("python", "tritonclient.grpc").replace("localhost:8001", getattr(whole_server, protocol))
    code = code.replace("import tritonclient.grpc", f"import tritonclient.{protocol}")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    verdict = judge.detect(folder / "photo.jpg", DetectOptions(seed=606))
    assert done.stdout.startswith(f"{np.array([[verdict.probability_fake]], np.float32)} [["), done.stderr
    assert f"b'{verdict.label}'" in done.stdout


def test_the_client_in_a_shell_prints_the_label(folder: Path, whole_server: Process, judge: Detector) -> None:
    if missing := [name for name in ("bash", "jq", "curl", "base64") if shutil.which(name) is None]:
        pytest.skip(f"not here: {', '.join(missing)}")
    command = example("sh", "jq -Rs").replace("localhost:8000", whole_server.http)
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120)
    (output,) = json.loads(done.stdout)["outputs"]
    assert output["data"] == [judge.detect(folder / "photo.jpg").label]


def test_without_its_libraries_grpc_says_what_installs_them(judge: Detector) -> None:
    code = (
        "import sys; sys.modules['grpc'] = None\n"
        "from glass_rt.cli import main\n"
        f"sys.argv = ['glass-rt', 'serve', '--engine', {str(judge.bundle.folder)!r}, '--port', '0', '--grpc-port', '0']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "pip install 'glass-rt[grpc]'" in done.stderr
