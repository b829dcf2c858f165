"""Built engines kept by what they were built from, so that the same build is not done twice."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from glass_rt.folder import MANIFEST, link_or_copy, read_manifest, sha256_of
from glass_rt.manifest import portable_from_json

CACHE_VARIABLE = "GLASS_RT_CACHE"


def default_cache() -> Path:
    """`$GLASS_RT_CACHE`, else `glass-rt` under the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "glass-rt"


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


def take(cache: Path, key: str, engine: Path) -> bool:
    """Puts the engine kept under `key` at `engine`; False where there is none, or it was damaged."""
    kept, digest = cache / "engines" / key, cache / "engines" / f"{key}.sha256"
    try:
        if sha256_of(kept) != digest.read_text(encoding="ascii").strip():
            return False
    except (OSError, UnicodeDecodeError):
        return False
    link_or_copy(kept, engine)
    return True


def keep(cache: Path, key: str, engine: Path) -> None:
    """Keeps `engine` under `key`; a cache that cannot be written is passed over: it only saves time."""
    folder = cache / "engines"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            staged = Path(temporary) / key
            link_or_copy(engine, staged)
            (staged.with_suffix(".sha256")).write_text(sha256_of(engine), encoding="ascii")
            staged.with_suffix(".sha256").replace(folder / f"{key}.sha256")
            staged.replace(folder / key)


def timings(cache: Path, library: str, version: str, gpu: str) -> Path:
    """The file of TensorRT's timing cache; timings hold for one version on one kind of GPU."""
    return cache / "timings" / f"{library}-{version}-{gpu.replace(' ', '_')}.bin"
