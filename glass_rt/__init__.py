"""glass-rt: the inference runtime for GLASS, a detector of AI-generated high-resolution images.

>>> from glass_rt import Detector
>>> with Detector.open("bundles/vit_b16") as detector:  # doctest: +SKIP
...     verdict = detector.detect("image.png")
...     print(verdict.label, verdict.probability_fake)
"""

import importlib
import importlib.machinery
import sys
import types
import typing

from glass_rt.version import __version__

if typing.TYPE_CHECKING:
    from glass_rt.detector import Detector
    from glass_rt.errors import GlassError
    from glass_rt.options import DetectOptions
    from glass_rt.results.verdict import CropEvidence, Failure, Verdict

__all__ = ["CropEvidence", "DetectOptions", "Detector", "Failure", "GlassError", "Verdict", "__version__"]

# Imported when they are asked for: so the command line heeds Ctrl-C before NumPy and OpenCV are loaded.
_HOMES = {
    "CropEvidence": "glass_rt.results.verdict",
    "DetectOptions": "glass_rt.options",
    "Detector": "glass_rt.detector",
    "Failure": "glass_rt.results.verdict",
    "GlassError": "glass_rt.errors",
    "Verdict": "glass_rt.results.verdict",
}
# Modules by their former names: README promised the first, and models in Triton repositories import the second.
_FORMER = {
    "glass_rt.file_names": "glass_rt.results.file_names",
    "glass_rt.environment": "glass_rt.machine.environment",
}


def __getattr__(name: str) -> object:
    if f"glass_rt.{name}" in _FORMER:
        return importlib.import_module(f"glass_rt.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _FormerNames:
    """Finds modules by their former names."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """The specification of a module that stands for another one."""
        return importlib.machinery.ModuleSpec(name, cls()) if name in _FORMER else None  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """None: a module as usual, which is not kept."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Puts the module of today in the place of the one of the former name."""
        sys.modules[module.__name__] = importlib.import_module(_FORMER[module.__name__])


sys.meta_path.append(_FormerNames)
