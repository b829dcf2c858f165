"""What the engines of a bundle take of memory on a CPU: opened, and run with full batches.

Libraries copy weights into layouts of their own, when an engine is opened or first run, and keep the memory of their
layers; how much that is depends on the kind of backbone. The figures are peaks that were measured on x86-64 with a
margin over each (benchmarks/engine_memory.py, benchmarks/results/engine_memory.json): a process that takes more than
its control group allows is killed, so too much is the smaller error.
"""

from __future__ import annotations

from dataclasses import dataclass

from glass_rt.bundle.checked_files import with_suffix
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.machine.device import on_processor
from glass_rt.machine.limits.memory import MB, held_bytes

_PINNED_COPY = "openvino"  # keeps a private copy of the weights under a pin


@dataclass(frozen=True)
class _Taken:
    """`per_byte` of the engines' files, and MB: `fixed`, and at most for each view of a batch.

    Small engines have small layers: those of a view take `smallest` MB and a fifth of the files' bytes.
    """

    per_byte: float
    fixed: float
    per_view: float
    smallest: float = 3

    def bytes(self, files: int, batch: int) -> int:
        return int(self.per_byte * files) + self.runs(files, batch)

    def runs(self, files: int, batch: int) -> int:
        """Of these, the bytes beside the weights."""
        return int(self.fixed * MB + min(self.per_view * MB, self.smallest * MB + files / 5) * batch)


# By backend, and by how the backbone's name begins; the last row is for all others.
_TAKEN = {
    "openvino": {
        "resnet": _Taken(1.4, 28, 8.5),
        "mobilenet": _Taken(1.4, 45, 8),
        "convnext": _Taken(2.0, 25, 8),
        "vit": _Taken(1.1, 150, 10),
        "": _Taken(2.0, 45, 10),
    },
    "onnxruntime": {
        # Its arena grows in powers of two, so that large batches take more for each view.
        "resnet": _Taken(2.1, 35, 28, 6),
        "mobilenet": _Taken(2.1, 25, 28, 7),
        "convnext": _Taken(3.0, 40, 35),
        "vit": _Taken(1.5, 60, 45),
        "": _Taken(3.0, 30, 45, 7),
    },
}
_LIBRARY = {"openvino": 100 * MB, "onnxruntime": 40 * MB}  # of addresses alone
_ON_GPU = _Taken(1.2, 15, 0)  # ONNX Runtime reads the graph in memory first


def engines_take(manifest: BundleManifest, batch: int, device: str, *, pinned: bool = False) -> int:
    """Bytes that this process holds at most for the engines of a bundle, the first to the last run; 0: not known.

    `batch`: most views in one run. `device`: where they run. `pinned`: the bundle was opened by its SHA-256.
    """
    backend, files = manifest.engine.backend, sum(engine_bytes(manifest, role) for role in manifest.model.roles)
    if backend not in _TAKEN:
        return 0
    if not on_processor(device):
        return _ON_GPU.bytes(files, batch)
    private = files if pinned and backend == _PINNED_COPY else 0
    return _row(backend, manifest.model.backbone).bytes(files, batch) + private


def runs_take(manifest: BundleManifest, batch: int, device: str) -> int | None:
    """Bytes at most that engines which are opened take by their runs; None where that is not known.

    ONNX Runtime lays out the weights while it opens an engine, OpenVINO at the first runs.
    """
    backend, files = manifest.engine.backend, sum(engine_bytes(manifest, role) for role in manifest.model.roles)
    if backend != "onnxruntime" or not on_processor(device):
        return None
    return _row(backend, manifest.model.backbone).runs(files, batch)


def library_addresses(manifest: BundleManifest) -> int:
    """Bytes of addresses that the backend's library maps beside what it holds."""
    return _LIBRARY.get(manifest.engine.backend, 0)


def engine_bytes(manifest: BundleManifest, role: str) -> int:
    """Bytes of an engine's files: the graph, and the weights beside it."""
    name = manifest.engine.files[role]
    names = {name, with_suffix(name, ".bin")}
    return sum(manifest.files[name].size for name in names if name in manifest.files)


def _row(backend: str, backbone: str) -> _Taken:
    return next(row for name, row in _TAKEN[backend].items() if backbone.startswith(name))


class EngineReserve:
    """Of the bytes that engines take in all, `expected`, those that are still to come.

    `before`: what this process held before the engines were opened. Libraries take memory at their first runs, and at
    the first of each batch size, and keep it.
    """

    def __init__(self, expected: int, before: int = 0) -> None:
        self._expected, self._before, self._taken = expected, before, 0

    @property
    def left(self) -> int:
        """Bytes that the engines may still take."""
        return max(0, self._expected - self._taken)

    def opened(self, runs: int | None) -> None:
        """The engines are opened, and will take at most `runs` bytes more; None: of what is expected, what is left."""
        self.note()
        if runs is not None:
            self._taken = max(self._taken, self._expected - runs)

    def note(self, beside: int = 0) -> None:
        """Looks at what the process holds now, of which `beside` at most is for other things. From any thread."""
        if self.left:
            self._taken = max(self._taken, held_bytes() - self._before - beside)
