"""A folder with a manifest that lists its files: written whole or not at all, checked before use."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from glass_rt.bundle.manifest import BundleManifest, FileEntry, PortableManifest, manifest_text, to_json
from glass_rt.errors import BuildError, BundleExists, BundleInvalid, BundleNotFound
from glass_rt.machine.cache_files import BESIDE
from glass_rt.machine.file_names import one_line
from glass_rt.machine.one_writer import Taken, in_use, locked_file
from glass_rt.machine.regular_file import CHUNK, RegularFile
from glass_rt.machine.write_whole import write_whole

MANIFEST = "manifest.json"
MOST_MANIFEST = 4 << 20  # bytes; those that are built have some ten thousand
_MOST_NAMED = 5  # foreign files spelled out
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
        staging = target.parent / f".{target.name}.partial-{secrets.token_hex(4)}"
        staging.mkdir()  # its mode follows the umask
    try:
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
    write_whole(folder / MANIFEST, manifest_text(to_json(complete)).encode())
    return complete


@contextmanager
def opened_folder(folder: Path) -> Iterator[int | None]:
    """A descriptor of the folder, by which files are opened in it though another takes its name; None on Windows.

    Raises BundleNotFound where there is no such folder.
    """
    if os.open not in os.supports_dir_fd:
        _check_folder(folder)
        yield None
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (OSError, ValueError) as error:
        raise _no_folder(folder, error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> str:
    """The text of a folder's manifest. Raises BundleNotFound, BundleInvalid."""
    with opened_folder(folder) as descriptor:
        return text_of(folder, read_manifest_bytes(folder, descriptor))


def read_manifest_bytes(folder: Path, descriptor: int | None) -> bytes:
    """The manifest of an opened folder, read once. Raises BundleNotFound, BundleInvalid."""
    path = folder / MANIFEST
    try:
        file = RegularFile.open(path, MANIFEST, descriptor)
        try:
            content = file.read(MOST_MANIFEST + 1)
        finally:
            file.close()
    except FileNotFoundError:
        raise BundleNotFound(f"{folder} has no {MANIFEST}: it is not a glass-rt bundle or portable model") from None
    except OSError as error:
        raise BundleInvalid(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MOST_MANIFEST:
        raise BundleInvalid(f"{path} is larger than any manifest ({MOST_MANIFEST >> 20} MB)")
    return content


def text_of(folder: Path, manifest: bytes) -> str:
    """The manifest as text. Raises BundleInvalid."""
    try:
        return manifest.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleInvalid(f"{folder / MANIFEST} is not text: {error}") from None


def check_no_foreign(folder: Path, files: Mapping[str, FileEntry], descriptor: int | None = None) -> None:
    """Raises BundleInvalid where the folder holds anything but folders and the files that its manifest lists.

    What a backend caches beside its engine, under `cache/`, is expected.
    """
    foreign = []
    for name in _entries(folder, descriptor):
        if name not in files and name != MANIFEST and not name.startswith(f"{BESIDE}/"):
            foreign.append(one_line(name))
            if len(foreign) > _MOST_NAMED:
                break
    if foreign:
        more = ", and more" if len(foreign) > _MOST_NAMED else ""
        raise BundleInvalid(
            f"{folder} holds files that its manifest does not list: {', '.join(foreign[:_MOST_NAMED])}{more}; "
            "move them elsewhere, or rebuild the bundle: glass-rt build"
        )


def _entries(folder: Path, descriptor: int | None) -> Iterator[str]:
    """Names, relative to the folder, of everything in it but folders; `cache/` is not looked into.

    A link to a folder is named like a file, and not followed.
    """
    pending = [""]
    while pending:
        parent = pending.pop()
        for name, is_folder in _listed(folder, parent, descriptor):
            if is_folder and name != BESIDE:
                pending.append(name)
            elif not is_folder:
                yield name


def _listed(folder: Path, parent: str, descriptor: int | None) -> list[tuple[str, bool]]:
    try:
        if descriptor is None:
            with os.scandir(folder / parent) as found:
                return [_named(parent, entry) for entry in found]
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        opened = os.open(parent or ".", flags, dir_fd=descriptor)
        try:
            with os.scandir(opened) as found:
                return [_named(parent, entry) for entry in found]
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno == errno.EACCES and parent:  # such as lost+found; nothing in it can be read
            return []
        raise BundleInvalid(f"{folder / one_line(parent)[:200]} cannot be listed: {error.strerror}") from error


def _named(parent: str, entry: os.DirEntry[str]) -> tuple[str, bool]:
    return (f"{parent}/{entry.name}" if parent else entry.name), entry.is_dir(follow_symlinks=False)


def _check_folder(folder: Path) -> None:
    if not os.path.isdir(folder):
        raise BundleNotFound(f"no such folder: {folder}")


def _no_folder(folder: Path, error: Exception) -> BundleNotFound | BundleInvalid:
    if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return BundleInvalid(f"{folder} cannot be opened: {error.strerror}")
    return BundleNotFound(f"no such folder: {folder}")


def _files(folder: Path) -> list[str]:
    """What a manifest lists: every file but itself and caches, which may change or go."""
    present = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in present if name != MANIFEST and not name.startswith(f"{BESIDE}/"))


def link_or_copy(source: Path, target: Path) -> None:
    """Puts `source` at `target` without doubling it on disk where the file system allows.

    The file at `target` may be read by all whom the umask allows: where the mode of `source` is narrower than that, it
    is copied. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    readers = os.fstat(descriptor).st_mode & 0o444
    os.close(descriptor)
    if source.stat().st_mode & readers == readers:
        target.unlink()
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
