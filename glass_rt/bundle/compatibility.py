"""Can this machine run that bundle? Asked before a vendor's library is loaded, which would log and return nothing."""

from __future__ import annotations

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.requirements import Requirements, is_capability
from glass_rt.errors import BundleUnfit
from glass_rt.machine.device import named_gpu
from glass_rt.machine.environment import Gpu, gpus, library_version
from glass_rt.machine.gpu_advice import GPU_COMMANDS, rebuild_command


def check_machine(bundle: Bundle, device: str | None = None) -> None:
    """Compares the bundle's requirements with the library, GPU and driver that are here.

    Raises BundleUnfit with the command that fixes it. Bundles without requirements run wherever their backend does.
    """
    requirements = bundle.manifest.engine.requirements
    if requirements is None:
        return
    problem = misfit(requirements, library_version(requirements.library), named_gpu(device))
    if problem is not None:
        raise BundleUnfit(f"{bundle.folder}: {problem}. {_remedy(bundle)}")


def misfit(requirements: Requirements, version: str | None, gpu: Gpu | None) -> str | None:
    """What is wrong with this machine for those engines, in a clause; None where nothing is.

    `version` is the installed one of the required library. A GPU of an unknown architecture is left to the library.
    """
    wanted = f"{requirements.library} {requirements.version}"
    if version is None:
        return f"its engines need {wanted}, which is not installed"
    if version != requirements.version:
        return (
            f"its engines were built by {wanted}; {requirements.library} {version} is installed, and reads only its own"
        )
    if gpu is None:
        return "its engines run on an NVIDIA GPU, and this machine shows none with that number"
    if is_capability(gpu.compute_capability) and not requirements.runs_on(gpu.compute_capability):
        later = " and later" if requirements.and_later else ""
        return (
            f"its engines are for GPUs of SM {', '.join(requirements.compute_capabilities)}{later}; "
            f"this {gpu.name} has SM {gpu.compute_capability}"
        )
    if requirements.gpu and gpu.name != requirements.gpu:
        return (
            f"its engines were tuned on {requirements.gpu} and are bound to it; this machine has {gpu.name}. "
            "--target same-sm builds for every model of its architecture"
        )
    driver, least = gpu.driver.split(".")[0], requirements.driver
    if driver.isdigit() and least and int(driver) < int(least):
        return f"its library needs the NVIDIA driver {least} or newer; this machine has {gpu.driver}"
    return None


def _remedy(bundle: Bundle) -> str:
    if not gpus():
        return GPU_COMMANDS
    engine = bundle.manifest.engine
    command = rebuild_command(str(bundle.folder), engine.backend, engine.precision)
    return f"Build it for this machine (neither PyTorch nor the checkpoint is needed): {command}"
