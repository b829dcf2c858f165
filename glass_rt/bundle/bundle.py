"""Portable models and bundles on disk: opened, checked, and read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from glass_rt.bundle.folder import MANIFEST, check_files, foreign_files, read_manifest, sha256_of
from glass_rt.bundle.manifest import BundleManifest, Model, PortableManifest, bundle_from_json, portable_from_json
from glass_rt.errors import BundleInvalid, BundleNotFound, UsageError

HEAD = "head.safetensors"
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
        manifest = portable_from_json(read_manifest(folder))
        check_files(folder, manifest.files, manifest.files)
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

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, expect_sha256: str | None = None, every_file: bool = False
    ) -> Bundle:
        """Opens a bundle and checks the schema and the hashes of the files that inference reads.

        `expect_sha256` pins the bundle against exchange (`glass-rt inspect` prints it). `every_file` also checks the
        portable model inside and that no foreign file lies beside. Raises BundleNotFound or BundleInvalid.
        """
        folder = Path(path)
        text = read_manifest(folder)
        digest = sha256_of(folder / MANIFEST)
        if expect_sha256 is not None and digest != expect_sha256.lower():
            raise BundleInvalid(f"{folder} is another bundle: its SHA-256 is {digest}, expected {expect_sha256}")
        manifest = bundle_from_json(text)
        if missing := [role for role in manifest.model.roles if role not in manifest.engine.files]:
            raise BundleInvalid(f"manifest.json: engine.files lacks {', '.join(missing)}")
        runtime_files = [name for name in manifest.files if "/" not in name and name != REFERENCE]
        runtime_files += [*manifest.engine.files.values(), HEAD]  # though a foreign manifest may not list them
        check_files(folder, manifest.files, manifest.files if every_file else runtime_files)
        if every_file and (foreign := foreign_files(folder, manifest.files)):
            raise BundleInvalid(f"{folder} holds files that its manifest does not list: {', '.join(foreign)}")
        return cls(folder, manifest, digest)

    def engine_file(self, role: str) -> Path:
        """The compiled engine of one role."""
        return self.folder / self.manifest.engine.files[role]

    def head(self) -> dict[str, NDArray[np.float32]]:
        """The head's parameters by name, float32."""
        return load_tensors(self.folder / HEAD)

    def reference(self) -> dict[str, NDArray[np.float32]]:
        """Reference views and what PyTorch computed for them."""
        check_files(self.folder, self.manifest.files, [REFERENCE])
        return load_tensors(self.folder / REFERENCE)


def load_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of a safetensors file; raises BundleInvalid where it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleInvalid(f"{path} cannot be read: {error}") from error


def save_tensors(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays as safetensors, which takes the bytes of a strided view as they lie: so contiguous ones."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


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
            f"no bundle found under ./{under}: build one with `glass-rt build --backbone vit_b16`, "
            f"or name one with --engine DIR or ${ENGINE_VARIABLE}"
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
