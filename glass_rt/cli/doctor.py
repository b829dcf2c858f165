"""`glass-rt doctor`: what is here, what is missing, and the commands that bring it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict

import click

from glass_rt.cli.options import json_option
from glass_rt.machine.cache_files import user_cache, why_no_user_cache
from glass_rt.machine.cuda_driver import why_not_started
from glass_rt.machine.environment import (
    BACKEND_PACKAGES,
    CODEC_PACKAGES,
    Gpu,
    backend_versions,
    cpu_name,
    gpus,
    installed,
    ort_plugins,
    usable_cores,
)
from glass_rt.machine.extras import BACKEND_EXTRAS, install_command
from glass_rt.machine.gpu_advice import GPU_COMMANDS
from glass_rt.machine.limits.memory import memory_limits
from glass_rt.results.file_names import text_from_name
from glass_rt.version import __version__

_PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "click",
    "safetensors",
    "torch",
    "torchvision",
    "onnx",
    "timm",
    "pillow-heif",
)
_GPU_ACCESS = ("cuda-core", "pycuda")
_REMARKS = {"tensorrt": "   (NVIDIA GPU)", "tensorrt_rtx": "   (NVIDIA GPU; builds anywhere)"}


@click.command(short_help="Show what this machine has and lacks, and how to get it.")
@json_option
def doctor(as_json: bool) -> int:
    """Say what this machine has for glass-rt, what is missing, and how to get it.

    Exit code 1 where something is wrong: no backend at all, packages that break each other, or an NVIDIA driver that
    does not start.
    """
    backends, found = backend_versions(), gpus()
    packages = {name: installed(name) for name in (*_PACKAGES, *_codecs())}
    problems = _problems()
    if as_json:
        report = {
            "glass_rt": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu": cpu_name(),
            "cores": usable_cores(),
            "memory": [{"limited_by": each.name, "bytes": each.limit, "left": each.room} for each in memory_limits()],
            "cache": _cache(),
            "gpus": [asdict(gpu) for gpu in found],
            "packages": packages,
            "backends": dict(backends),
            "plugins": dict(ort_plugins()),
            "gpu_access": {name: installed(name) for name in _GPU_ACCESS},
            "problems": problems,
        }
        click.echo(json.dumps(report, indent=2))
    else:
        _print(backends, found, packages, problems)
    return 1 if problems else 0


def _print(
    backends: Mapping[str, str | None], found: tuple[Gpu, ...], packages: dict[str, str | None], problems: list[str]
) -> None:
    click.echo(f"glass-rt {__version__}, Python {platform.python_version()} ({sys.executable})")
    click.echo(f"{platform.platform()}")
    click.echo(f"CPU       {cpu_name()}, {usable_cores()} cores")
    for limit in memory_limits():
        click.echo(f"Memory    {limit}")
    cache = _cache()
    click.echo(f"Cache     {cache['folder'] or 'none'}{': ' if cache['unusable'] else ''}{cache['unusable'] or ''}")
    for gpu in found:
        click.echo(f"GPU       {gpu.name}, {gpu.memory}, SM {gpu.compute_capability}, driver {gpu.driver}")
    if not found:
        click.echo("GPU       none: neither NVIDIA's driver nor nvidia-smi finds one")
    click.echo("Backends")
    for name, version in backends.items():
        missing = f"not installed; {install_command(BACKEND_EXTRAS[name])}{_REMARKS.get(name, '')}"
        click.echo(f"  {name:<23} {version or missing}")
    for name, version in ort_plugins().items():
        click.echo(
            f"  {f'plugin:{name}':<23} onnxruntime-ep-{name} {version}   (for ONNX Runtime: --device plugin:{name})"
        )
    click.echo("GPU access")
    for name in _GPU_ACCESS:
        click.echo(f"  {name:<23} {installed(name) or 'not installed' + _gpu_access_advice(name)}")
    click.echo("Packages")
    for name, version in packages.items():
        click.echo(f"  {name:<23} {version or 'not installed' + _purpose(name)}")
    for problem in problems:
        click.echo(f"PROBLEM   {problem}")
    if not found or not any(backends[name] for name in ("tensorrt", "tensorrt_rtx")):
        click.echo(GPU_COMMANDS)
    if not problems:
        click.echo("No problems found.")


def _cache() -> dict[str, str | None]:
    """The user's cache folder, and why nothing is kept there, if so; making it is left to those that write there."""
    why = why_no_user_cache()
    try:
        folder = user_cache()
    except RuntimeError:
        return {"folder": None, "unusable": why}
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if why is None and not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        why = f"{nearest} is no folder that this account may write; nothing is kept there"
    return {"folder": text_from_name(str(folder)), "unusable": why and text_from_name(why)}


def _codecs() -> tuple[str, ...]:
    """The packages of nvImageCodec that are here, or the one that the extra installs."""
    return tuple(filter(installed, CODEC_PACKAGES)) or CODEC_PACKAGES[:1]


def _gpu_access_advice(package: str) -> str:
    return f"; {install_command('cuda')}" if package == "cuda-core" else f"; Jetson: {install_command('pycuda')}"


def _purpose(package: str) -> str:
    if package in ("torch", "torchvision", "onnx"):
        return f"; only the export stage needs it: {install_command('export')}"
    if package in CODEC_PACKAGES:
        return f"; only --decode device needs it: {install_command('decode')}"
    if package == "timm":
        return f"; only --backbone timm:NAME needs it: {install_command('timm')}"
    return f"; only HEIC images need it: {install_command('heic')}" if package == "pillow-heif" else ""


def _problems() -> list[str]:
    problems = []
    windows = [name for name in ("opencv-python", "opencv-contrib-python") if installed(name)]
    if windows and installed("opencv-python-headless"):
        problems.append(
            f"{windows[0]} and opencv-python-headless overwrite each other's files: "
            f"pip uninstall {windows[0]}; pip install --force-reinstall opencv-python-headless"
        )
    runtimes = [name for name in BACKEND_PACKAGES["onnxruntime"] if installed(name)]
    if len(runtimes) > 1:
        problems.append(
            f"{' and '.join(runtimes)} overwrite each other's files: "
            f"pip uninstall {' '.join(runtimes)}, then install the one you want"
        )
    if (reason := why_not_started()) is not None:
        problems.append(reason)
    codecs = [name for name in CODEC_PACKAGES if installed(name)]
    if len(codecs) > 1:
        problems.append(
            f"{' and '.join(codecs)} overwrite each other's files: pip uninstall {' '.join(codecs)}, "
            "then install the one for your driver's CUDA"
        )
    if not any(backend_versions().values()):
        problems.append(f"no backend is installed, so no engine can run: {install_command('cpu')}")
    return problems
