"""`make container-check` and `make arm-check`: where what they need is missing, they say so and do nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash")
# What the scripts ask for before they know whether they can run.
TOOLS = ("dirname", "id", "sed", "realpath")
pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash")


def run(script: str, folder: Path, *tools: str) -> subprocess.CompletedProcess[str]:
    """The script on a machine that has these tools alone."""
    for tool in (*TOOLS, *tools):
        found = shutil.which(tool)
        (folder / tool).symlink_to(found if found else "/bin/true")
    environment = {"PATH": str(folder), "HOME": str(folder)}
    return subprocess.run([str(BASH), ROOT / "deploy" / script], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("script", "tools", "reason"),
    [
        ("check_container.sh", (), "buildah is not installed"),
        ("check_arm.sh", (), "debootstrap is not installed"),
        ("check_arm.sh", ("debootstrap",), "qemu-aarch64-static is not installed"),
        ("check_arm.sh", ("debootstrap", "qemu-aarch64-static"), "no bundle is named"),
    ],
)
def test_it_is_skipped_with_the_reason(script: str, tools: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    done = run(script, tmp_path, *tools)
    if os.getuid() != 0:
        reason = "it needs root"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{script[6:-3]}-check: skipped: {reason}")


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").glob("*.sh")), ids=lambda path: path.name)
def test_it_is_bash(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run([str(BASH), "-n", script]).returncode == 0
