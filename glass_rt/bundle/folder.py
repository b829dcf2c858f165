"""A folder with a manifest that lists its files: written whole or not at all, checked before use."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from glass_rt.bundle.manifest import BundleManifest, FileEntry, PortableManifest, to_json
from glass_rt.errors import BuildError, BundleExists, BundleInvalid, BundleNotFound
from glass_rt.machine.cache_files import BESIDE
from glass_rt.machine.one_writer import Taken, in_use, locked_file
from glass_rt.machine.write_whole import write_whole

MANIFEST = "manifest.json"
_CHUNK = 1 << 20
ManifestT = TypeVar("ManifestT", PortableManifest, BundleManifest)


@contextmanager
def staged(target: Path, *, force: bool, mark: str = MANIFEST) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well.

    Anything else, Ctrl-C included, removes the temporary folder and leaves what was at `target` as it was. Raises
    BundleExists where `target` exists and `force` is not given, and where another process is writing it; BuildError
    where the disk is full.
    """
    with _only_writer_of(target, force=force, mark=mark), _staging(target, force=force, mark=mark) as staging:
        yield staging


@contextmanager
def _only_writer_of(target: Path, *, force: bool, mark: str) -> Iterator[None]:
    """Raises BundleExists where another process is writing `target`, or has written it."""
    check_target(target, force=force, mark=mark)
    with ExitStack() as stack:
        try:
            with _disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked_file(target.with_name(f".{target.name}.lock")))
        except Taken as taken:
            raise BundleExists(in_use(target, taken)) from None
        yield


@contextmanager
def _staging(target: Path, *, force: bool, mark: str) -> Iterator[Path]:
    check_target(target, force=force, mark=mark)
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        staging.chmod(0o755)
        with _disk_errors(target, staging):
            yield staging
        check_target(target, force=force, mark=mark)  # it may have been made meanwhile
        with _disk_errors(target):
            _replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_target(target: Path, *, force: bool, mark: str = MANIFEST) -> None:
    """Raises BundleExists where `target` holds something that may not be replaced: a folder without the file `mark`."""
    if not target.exists():
        return
    if not force:
        raise BundleExists(f"{target} exists already; --force replaces it, --output DIR writes elsewhere")
    if not target.is_dir() or (any(target.iterdir()) and not (target / mark).is_file()):
        raise BundleExists(f"{target} is not a glass-rt folder (no {mark}); it is not replaced, even with --force")


def _replace(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    previous = staging.with_name(staging.name.replace(".partial-", ".previous-"))
    target.rename(previous)
    try:
        staging.rename(target)
    except BaseException:
        previous.rename(target)
        raise
    if previous.is_symlink():
        previous.unlink()  # the folder that it names is somebody's
    else:
        shutil.rmtree(previous, ignore_errors=True)


@contextmanager
def _disk_errors(target: Path, staging: Path | None = None) -> Iterator[None]:
    """Says what `target` lacks; errors with files outside of `staging`, where it is given, are not about `target`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BuildError(
                f"no space left to write {target}: free some, or choose another disk with --output"
            ) from error
        names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        elsewhere = staging is not None and names and not any(name.is_relative_to(staging) for name in names)
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR) and not elsewhere:
            raise BuildError(f"{target} cannot be written: {error.strerror}") from error
        raise


def write_manifest(folder: Path, manifest: ManifestT) -> ManifestT:
    """Writes `manifest.json` listing every file now in `folder` but caches; returns the manifest with its files."""
    entries = {name: FileEntry((folder / name).stat().st_size, sha256_of(folder / name)) for name in _files(folder)}
    complete = replace(manifest, files=entries)
    text = json.dumps(to_json(complete), indent=2) + "\n"
    write_whole(folder / MANIFEST, text.encode())
    return complete


def read_manifest(folder: Path) -> str:
    """The text of a folder's manifest."""
    if not folder.is_dir():
        raise BundleNotFound(f"no such folder: {folder}")
    try:
        return (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleNotFound(f"{folder} has no {MANIFEST}: it is not a glass-rt bundle or portable model") from None
    except UnicodeDecodeError as error:
        raise BundleInvalid(f"{folder / MANIFEST} is not text: {error}") from None


def check_files(folder: Path, files: Mapping[str, FileEntry], names: Iterable[str]) -> None:
    """Compares `names` on disk with their manifest entries, sizes first; raises BundleInvalid."""
    for name in names:
        if name not in files:
            raise BundleInvalid(f"{folder / name} is not listed in the manifest")
        path, entry = folder / name, files[name]
        if not path.is_file():
            raise BundleInvalid(f"{path} is missing; rebuild the bundle: glass-rt build")
        if path.stat().st_size != entry.size:
            raise BundleInvalid(
                f"{path} has {path.stat().st_size} bytes, the manifest says {entry.size}: "
                "it was altered or cut short; rebuild the bundle: glass-rt build"
            )
        if sha256_of(path) != entry.sha256:
            raise BundleInvalid(f"{path} was altered (its SHA-256 differs); rebuild the bundle: glass-rt build")


def foreign_files(folder: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """Files that the manifest does not list; what a backend caches beside its engine, under `cache/`, is expected."""
    return [name for name in _files(folder) if name not in files]


def _files(folder: Path) -> list[str]:
    """What a manifest lists: every file but itself and caches, which may change or go."""
    present = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in present if name != MANIFEST and not name.startswith(f"{BESIDE}/"))


def link_or_copy(source: Path, target: Path) -> None:
    """Puts `source` at `target` without doubling it on disk where the file system allows."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
