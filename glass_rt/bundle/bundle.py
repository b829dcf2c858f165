"""Portable models and bundles on disk: opened, checked, and read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from glass_rt.bundle.checked_files import CheckedFiles, EngineFile, with_suffix
from glass_rt.bundle.decision import check_decision
from glass_rt.bundle.folder import (
    MANIFEST,
    check_no_foreign,
    opened_folder,
    read_manifest,
    read_manifest_bytes,
    text_of,
)
from glass_rt.bundle.manifest import (
    HEAD as HEAD,
)
from glass_rt.bundle.manifest import (
    BundleManifest,
    Model,
    PortableManifest,
    bundle_from_json,
    content_sha256,
    portable_from_json,
)
from glass_rt.errors import BundleInvalid, BundleNotFound, UsageError, first_line
from glass_rt.machine.write_whole import write_whole

REFERENCE = "reference.safetensors"
PORTABLE_FOLDER = "model"  # inside a bundle
ENGINE_VARIABLE = "GLASS_RT_ENGINE"
DEFAULT_FOLDER = Path("bundles")  # where `glass-rt build` writes
FORMER_FOLDER = Path("engines")  # where it wrote at first: now the source of a stage, and nothing else


@dataclass(frozen=True)
class PortableModel:
    """A portable model: typed ONNX graphs, the head, and reference values computed by PyTorch."""

    folder: Path
    manifest: PortableManifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PortableModel:
        """Opens a portable model, or the one that travels inside a bundle, and checks every file of it."""
        folder = Path(path)
        if (folder / PORTABLE_FOLDER / MANIFEST).is_file():
            folder = folder / PORTABLE_FOLDER
        elif '"kind": "bundle"' in read_manifest(folder)[:200]:
            raise BundleInvalid(
                f"{folder} is a slim bundle: it carries no portable model. Build from the checkpoint or from an export"
            )
        with opened_folder(folder) as descriptor:
            text = text_of(folder, read_manifest_bytes(folder, descriptor))
            manifest = portable_from_json(text, str(folder / MANIFEST))
            check_no_foreign(folder, manifest.files, descriptor)
            files = CheckedFiles(folder, manifest.files)
            files.check(manifest.files, folder=descriptor)
        for graphs in manifest.graphs.values():
            for graph in graphs.values():
                files.check_references(graph)
        return cls(folder, manifest)

    @property
    def model(self) -> Model:
        """What it is."""
        return self.manifest.model

    def graph(self, precision: str, role: str) -> Path:
        """The ONNX file of one engine."""
        if precision not in self.manifest.graphs:
            raise UsageError(
                f"the portable model has graphs in {', '.join(self.manifest.graphs)}, not in {precision}; "
                f"export it again with --precision {precision}"
            )
        return self.folder / self.manifest.graphs[precision][role]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its files are those that its manifest lists."""

    folder: Path
    manifest: BundleManifest
    sha256: str  # of manifest.json, which lists every other file's: it pins the whole bundle
    files: CheckedFiles = field(repr=False, compare=False)
    manifest_text: str = field(repr=False, compare=False)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, expect_sha256: str | None = None, every_file: bool = False
    ) -> Bundle:
        """Opens a bundle; checks the schema, the hashes of the files that inference reads, and that none is foreign.

        `expect_sha256` pins the bundle against exchange (`glass-rt inspect` prints it): then libraries are handed
        private copies of what was compared, and nothing in the bundle's `cache/` is read. `every_file` also checks the
        portable model inside. Raises BundleNotFound or BundleInvalid.
        """
        folder = Path(path)
        with opened_folder(folder) as descriptor:
            content = read_manifest_bytes(folder, descriptor)
            digest = hashlib.sha256(content).hexdigest()
            if expect_sha256 is not None and digest != expect_sha256.lower():
                raise BundleInvalid(f"{folder} is another bundle: its SHA-256 is {digest}, expected {expect_sha256}")
            text = text_of(folder, content)
            manifest = bundle_from_json(text, str(folder / MANIFEST))
            if missing := [role for role in manifest.model.roles if role not in manifest.engine.files]:
                raise BundleInvalid(f"{folder / MANIFEST}: engine.files lacks {', '.join(missing)}")
            check_decision(manifest, text, folder)
            files = CheckedFiles(folder, manifest.files, pinned=expect_sha256 is not None)
            files.check(_names(manifest, every_file), held=_handed_over(manifest), folder=descriptor)
            check_no_foreign(folder, manifest.files, descriptor)
        if manifest.engine.backend == "onnxruntime":
            for role in manifest.model.roles:
                files.check_references(manifest.engine.files[role])
        return cls(folder, manifest, digest, files, text)

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 of the bundle without its decision: calibrating changes `sha256`, and leaves this one as it is."""
        return content_sha256(self.manifest_text)

    @property
    def pinned(self) -> bool:
        """Whether the caller said which bundle it must be."""
        return self.files.pinned

    def engine(self, role: str) -> EngineFile:
        """The compiled engine of one role, for its backend to open."""
        return EngineFile(self.engine_file(role), self.files, self.manifest.engine.files[role])

    def portable_engine(self, precision: str, role: str) -> EngineFile:
        """The graph that the engine of one role was compiled from, of the portable model inside.

        Raises UsageError where the bundle carries none, and BundleInvalid where a file was altered.
        """
        listed = f"{PORTABLE_FOLDER}/{MANIFEST}"
        if listed not in self.manifest.files:
            raise UsageError(
                f"{self.folder} is a slim bundle, without the graph that this device needs: build it without --slim"
            )
        where = str(self.folder / listed)
        portable = portable_from_json(text_of(self.folder / PORTABLE_FOLDER, self.files.read(listed)), where)
        graph = portable.graphs.get(precision, {}).get(role)
        if graph is None:
            raise BundleInvalid(f"{where}: graphs lacks {precision} {role}")
        name = f"{PORTABLE_FOLDER}/{graph}"
        self.files.check_references(name)
        return EngineFile(self.folder / name, self.files, name)

    def engine_file(self, role: str) -> Path:
        """Where the compiled engine of one role lies."""
        return self.folder / self.manifest.engine.files[role]

    def head(self) -> dict[str, NDArray[np.float32]]:
        """The head's parameters by name, float32. Raises BundleInvalid."""
        return _tensors(self.files.read(HEAD), self.folder / HEAD)

    def reference(self) -> dict[str, NDArray[np.float32]]:
        """Reference views and what PyTorch computed for them. Raises BundleInvalid."""
        return _tensors(self.files.read(REFERENCE), self.folder / REFERENCE)


def _names(manifest: BundleManifest, every_file: bool) -> list[str]:
    """Every file, or those that inference reads, some of which a foreign manifest may not list."""
    listed = [name for name in manifest.files if every_file or ("/" not in name and name != REFERENCE)]
    return [*listed, *manifest.engine.files.values(), HEAD]


def _handed_over(manifest: BundleManifest) -> set[str]:
    """Names of the files that libraries read, or that are parsed."""
    engines = [manifest.engine.files[role] for role in manifest.model.roles]
    return {*engines, *(with_suffix(name, ".bin") for name in engines), HEAD}


def load_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of a safetensors file; raises BundleInvalid where it is damaged."""
    try:
        return _tensors(path.read_bytes(), path)
    except OSError as error:
        raise BundleInvalid(f"{path} cannot be read: {error.strerror}") from error


def _tensors(content: bytes, path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleInvalid(f"{path} cannot be read: {first_line(error)}") from error


def save_tensors(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays as safetensors; the file's mode follows the umask, which the library's own writer ignores.

    The library takes the bytes of a strided view as they lie: so contiguous ones are given.
    """
    write_whole(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def find_bundle(
    explicit: str | os.PathLike[str] | None, *, under: Path = DEFAULT_FOLDER, before: Path = FORMER_FOLDER
) -> Path:
    """The bundle to use: the one named, else $GLASS_RT_ENGINE, else the only GLASS bundle in the folder `under`.

    Where `under` holds none, bundles in the folder `before` count. Raises BundleNotFound where there is none and
    UsageError, listing them, where there are several.
    """
    if explicit is not None:
        return Path(explicit)
    if named := os.environ.get(ENGINE_VARIABLE):
        return Path(named)
    found = _glass_bundles(under) or _glass_bundles(before)
    if not found:
        raise BundleNotFound(
            f"no bundle found under ./{under}: build one with `glass-rt build --weights CHECKPOINT`, or untrained with "
            f"`glass-rt build --backbone vit_b16`, or name one with --engine DIR or ${ENGINE_VARIABLE}"
        )
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise UsageError(f"several bundles found ({names}): choose one with --engine DIR or ${ENGINE_VARIABLE}")
    return found[0]


def _glass_bundles(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if (path / MANIFEST).is_file() and _is_glass(path))


def _is_glass(folder: Path) -> bool:
    try:
        return bundle_from_json(read_manifest(folder)).model.architecture == "glass"
    except (BundleInvalid, BundleNotFound, UsageError):
        return True  # damaged: name it, so that opening it says what is wrong
