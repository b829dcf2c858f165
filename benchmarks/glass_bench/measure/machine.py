"""The header of every record: on what, and with what, it was measured."""

from __future__ import annotations

import os
import platform
import runpy
import subprocess
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glass_rt.machine.environment import cpu_name, gpus, installed, usable_cores
from glass_rt.version import __version__

_PACKAGES = (
    "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt_rtx",
    "torch", "torchvision", "pillow", "mlcommons-loadgen", "scikit-learn",
)  # fmt: skip
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class Machine:
    """Hardware and software. `governor` is None where the system does not tell (virtual machines mostly)."""

    cpu: str
    cores: int
    memory_gb: float | None
    gpus: tuple[dict[str, str], ...]
    governor: str | None
    system: str
    python: str
    packages: dict[str, str]
    git_commit: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def this_machine() -> Machine:
    """What can be found out without special rights."""
    versions = {"glass-rt": __version__, **{name: number for name in _PACKAGES if (number := installed(name))}}
    if "torch" in versions:
        versions["torch"] = torch_version() or versions["torch"]
    return Machine(
        cpu=cpu_name(),
        cores=usable_cores(),
        memory_gb=_memory_gb(),
        gpus=tuple(asdict(gpu) for gpu in gpus()),
        governor=_GOVERNOR.read_text(encoding="utf-8").strip() if _GOVERNOR.is_file() else None,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=versions,
        git_commit=_git_commit(),
    )


def torch_version() -> str | None:
    """`torch.__version__` without importing PyTorch; unlike its package's version it tells the CUDA it is built for."""
    try:
        found = find_spec("torch")
        if found is None or found.origin is None:
            return None
        return str(runpy.run_path(str(Path(found.origin).with_name("version.py")))["__version__"])
    except (OSError, KeyError, ValueError):
        return None


def load_average() -> float | None:
    """Runnable processes over the last minute: above the harness's own use, other processes are at work."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def cpu_busy_ticks() -> tuple[int, int] | None:
    """(busy, stolen) clock ticks of all cores since the start of the machine; None where /proc does not tell."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = fields[:8]
    return user + nice + system + irq + softirq, steal


def own_cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (OSError, ValueError, AttributeError):
        return None


def _git_commit() -> str | None:
    """The commit this package is run from, `+` where files differ from it; None outside of a working tree."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        return f"{commit}+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()
