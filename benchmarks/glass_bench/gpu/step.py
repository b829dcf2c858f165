"""The process of one step: `python -m glass_bench.gpu.step MODULE FIGURES SCALE [ARGUMENT ...]`.

Runs `main(FIGURES, SCALE, ARGUMENT, ...)` of that module. FIGURES is the JSON file that the step keeps
its figures in; SCALE below 1 makes everything smaller, for a dry run.
"""

from __future__ import annotations

import importlib
import os
import sys

DRY_RUN = "GLASS_RT_GPU_KIT_STAND_INS"  # in a dry run, the module that has the stand-ins
DRY_BACKBONE = "tiny_norm"  # of theirs


def prepare_dry_run() -> None:
    """In a dry run, puts the stand-ins in the places of NVIDIA's libraries, in this process alone."""
    if os.environ.get(DRY_RUN):
        importlib.import_module(os.environ[DRY_RUN]).install()


def main() -> None:
    """Runs the step in this process."""
    module, figures, scale, *arguments = sys.argv[1:]
    prepare_dry_run()
    importlib.import_module(module).main(figures, float(scale), *arguments)


if __name__ == "__main__":
    main()
