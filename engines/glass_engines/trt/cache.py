"""The cache of built engines, by what they were built from, so that the same build is not done twice."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from glass_rt.bundle.folder import MANIFEST, link_or_copy, read_manifest, sha256_of
from glass_rt.bundle.manifest import portable_from_json
from glass_rt.machine.cache_files import BESIDE

TIMINGS = ".timings"


def build_key(graph: Path, circumstances: Mapping[str, object]) -> str:
    """SHA-256 of the graph's bytes, weights included, and of everything else that a build depends on."""
    text = json.dumps({"graph": _digest(graph), **circumstances}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(graph: Path) -> str:
    """SHA-256 of a graph: from the manifest beside it, against which it was checked when it was opened, or computed."""
    if (graph.parent / MANIFEST).is_file():
        entry = portable_from_json(read_manifest(graph.parent)).files.get(graph.name)
        if entry is not None:
            return entry.sha256
    return sha256_of(graph)


def restore_engine(cache: Path, key: str, engine: Path) -> bool:
    """Puts the engine stored under `key` at `engine`; False where there is none, or it was damaged."""
    stored, digest = cache / "engines" / key, cache / "engines" / f"{key}.sha256"
    try:
        if sha256_of(stored) != digest.read_text(encoding="ascii").strip():
            return False
    except (OSError, UnicodeDecodeError):
        return False
    link_or_copy(stored, engine)
    return True


def store_engine(cache: Path, key: str, engine: Path) -> None:
    """Stores `engine` under `key`; a cache that cannot be written is passed over: it only saves time."""
    folder = cache / "engines"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            staged = Path(temporary) / key
            link_or_copy(engine, staged)
            (staged.with_suffix(".sha256")).write_text(sha256_of(engine), encoding="ascii")
            staged.with_suffix(".sha256").replace(folder / f"{key}.sha256")
            staged.replace(folder / key)


def timings(engine: Path, cache: Path | None, library: str, version: str, gpu: str) -> tuple[Path, ...]:
    """Where TensorRT's timings are kept: beside the bundle that `engine` is of, and in `cache`, for other bundles.

    Timings hold for one version on one kind of GPU.
    """
    name = f"{library}-{version}-{gpu.replace(' ', '_')}{TIMINGS}"
    beside = engine.parent / BESIDE / name
    return (beside,) if cache is None else (beside, cache / "timings" / name)


def carry_timings(source: Path, target: Path) -> None:
    """Puts the timings beside the bundle `source` beside the bundle `target` too, where it has none of that name."""
    with suppress(OSError):
        for path in (source / BESIDE).glob(f"*{TIMINGS}"):
            if not (target / BESIDE / path.name).exists():
                (target / BESIDE).mkdir(exist_ok=True)
                shutil.copy2(path, target / BESIDE / path.name)
