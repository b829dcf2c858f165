"""The engines of `bench authors`: built where they are missing, so that one command needs nothing beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glass_engines.build import BuildOptions, build_bundle, prepare_export
from glass_engines.registry import choose_backend

from glass_rt.bundle.bundle import PortableModel
from glass_rt.bundle.folder import MANIFEST
from glass_rt.progress import Stage, silent

BACKBONES = ("vit_b16", "resnet50", "convnext_tiny")
PRECISIONS = ("fp32", "bf16", "int8")


def engines_in(
    folder: Path, backbones: Sequence[str], precisions: Sequence[str], backend: str, calibration: Path, stage: Stage
) -> list[Path]:
    """Bundles `folder`/BACKBONE-PRECISION, by backbone; those not there are built, with untrained weights.

    Untrained weights cost what trained ones cost. INT8 is calibrated on the images of `calibration`.
    """
    backend = choose_backend(backend)
    found = []
    for backbone in backbones:
        source = folder / f"{backbone}-fp32"
        for precision in ("fp32", *(name for name in precisions if name != "fp32")):
            target = folder / f"{backbone}-{precision}"
            if not (target / MANIFEST).is_file():
                options = BuildOptions(backend, precision, calibration=calibration if precision == "int8" else None)
                with stage(f"building {target.name}"):
                    portable = (
                        prepare_export(silent, backbone=backbone, precisions=("fp32",))
                        if precision == "fp32"
                        else PortableModel.open(source)
                    )
                    build_bundle(portable, target, options)
            if precision in precisions:
                found.append(target)
    return found
