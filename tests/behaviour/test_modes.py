"""Who may read a bundle: the umask decides, as for any other file, and other accounts open what they may read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from glass_engines.build import BuildOptions, build_bundle

from glass_rt.bundle.bundle import HEAD, Bundle, save_tensors
from glass_rt.bundle.folder import link_or_copy
from glass_rt.machine.environment import installed
from glass_rt.serve.triton.config import ServingOptions
from glass_rt.serve.triton.repository import write_model
from tests.support import Portables

ACCOUNT = 10001  # USER in deploy/*.Dockerfile, runAsUser in deploy/kubernetes.yaml
# Opens and judges as this account, then as another: what is imported lazily is imported by then.
JUDGE_AS_ANOTHER = """
import os, sys
import numpy as np
from glass_rt import Detector
from glass_rt.bundle.bundle import Bundle
account, folders = int(sys.argv[1]), sys.argv[2:]
def judge(folder):
    pin = Bundle.open(folder, every_file=True).sha256
    for expect in (None, pin):
        with Detector.open(folder, expect_bundle=expect) as detector:
            detector.detect(np.zeros((224, 224, 3), np.uint8))
judge(folders[0])
os.setgroups([])
os.setgid(account)
os.setuid(account)
for folder in folders:
    judge(folder)
print("judged as", os.getuid())
"""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account may enter; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="glass-rt-modes-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def unreadable(folder: Path, readers: int) -> dict[str, str]:
    """Files that lack a reader, and folders that their owner alone enters, with their modes."""
    wanted = {path: readers | (readers >> 2 if path.is_dir() else 0) for path in (folder, *folder.rglob("*"))}
    return {
        str(path.relative_to(folder)): oct(path.stat().st_mode)
        for path, bits in wanted.items()
        if path.stat().st_mode & bits != bits
    }


@pytest.mark.parametrize(("mask", "readers"), [(0o022, 0o444), (0o027, 0o440), (0o077, 0o400)])
def test_modes_follow_the_umask(portables: Portables, tmp_path: Path, mask: int, readers: int) -> None:
    source = portables("mobilenet_v3_small")
    with umask(mask):
        bundle = build_bundle(source, tmp_path / "bundle", BuildOptions("onnxruntime"))
        model = write_model(bundle, tmp_path / "models", ServingOptions())
    for folder in (bundle.folder, model):
        assert unreadable(folder, readers) == {}
        assert folder.stat().st_mode & 0o777 == 0o777 & ~mask
    assert (bundle.folder / "manifest.json").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_tensors_are_written_with_the_umasks_mode(tmp_path: Path, mask: int) -> None:
    """As `export` writes them, before any of them is copied; safetensors' own writer gives them to their owner alone."""
    with umask(mask):
        save_tensors(tmp_path / HEAD, {"weight": np.zeros(3, np.float32)})
    assert (tmp_path / HEAD).stat().st_mode & 0o777 == 0o666 & ~mask


def test_narrow_files_of_earlier_builds_are_copied_with_the_umasks_mode(portables: Portables, tmp_path: Path) -> None:
    """safetensors 0.8 wrote heads that only their owner could read."""
    with umask(0o022):
        bundle = build_bundle(portables("mobilenet_v3_small"), tmp_path / "bundle", BuildOptions("onnxruntime"))
        (bundle.folder / HEAD).unlink()
        shutil.copyfile(bundle.folder / "model" / HEAD, bundle.folder / HEAD)
        for head in (bundle.folder / HEAD, bundle.folder / "model" / HEAD):
            head.chmod(0o600)
        model = write_model(Bundle.open(bundle.folder), tmp_path / "models", ServingOptions())
        assert unreadable(model, 0o444) == {}
        assert (bundle.folder / HEAD).stat().st_mode & 0o777 == 0o600, "what is copied stays as it was"


def test_a_file_is_linked_where_its_mode_allows(tmp_path: Path) -> None:
    with umask(0o022):
        wide, narrow = tmp_path / "wide", tmp_path / "narrow"
        for path, mode in ((wide, 0o644), (narrow, 0o600)):
            path.write_bytes(b"content")
            path.chmod(mode)
            link_or_copy(path, tmp_path / "new" / path.name)
        assert (tmp_path / "new" / "wide").stat().st_ino == wide.stat().st_ino
        assert (tmp_path / "new" / "narrow").stat().st_mode & 0o777 == 0o644
        assert (tmp_path / "new" / "narrow").read_bytes() == b"content"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes another account")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_another_account_opens_what_was_built(portables: Portables, open_folder: Path, backend: str) -> None:
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    with umask(0o022):
        bundle = build_bundle(portables("mobilenet_v3_small"), open_folder / "bundle", BuildOptions(backend))
        model = write_model(bundle, open_folder / "models", ServingOptions())
    folders = [str(bundle.folder), str(model / "1" / "bundle")]
    done = subprocess.run(
        [sys.executable, "-c", JUDGE_AS_ANOTHER, str(ACCOUNT), *folders], capture_output=True, text=True, timeout=300
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", f"judged as {ACCOUNT}\n", 0)
