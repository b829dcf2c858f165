"""The decision of a bundle: a field of its manifest, put in and taken out by one rename.

Nothing is written in place: files of a bundle may be hard-linked elsewhere. What a killed process leaves behind lies
under `cache/`, where a bundle's opening does not mind it and the next writer removes it.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glass_rt.bundle.folder import MANIFEST, read_manifest
from glass_rt.bundle.manifest import (
    DECISION,
    HEAD,
    SCHEMA,
    BundleManifest,
    bundle_from_json,
    content_sha256,
    manifest_text,
    manifest_values,
    with_decision,
    without_decision,
)
from glass_rt.decision.calibration import Calibration
from glass_rt.errors import BundleInvalid, CalibrationInvalid, GlassError
from glass_rt.machine.cache_files import BESIDE
from glass_rt.machine.one_writer import Taken, locked_file

_UNFINISHED = f"{MANIFEST}."  # names of manifests that are being written begin so


def content_sha256_of(folder: Path) -> str:
    """SHA-256 of a bundle's content: its manifest without the decision, which lists every other file's.

    Calibrating changes the bundle's own SHA-256 and not this one. Raises BundleNotFound, BundleInvalid.
    """
    text = read_manifest(folder)
    manifest_values(text, str(folder / MANIFEST))
    return content_sha256(text)


def decided_files(manifest: BundleManifest) -> dict[str, str]:
    """The files that scores come from, engines and head, name to SHA-256; those that the manifest lists."""
    names = [*(manifest.engine.files[role] for role in manifest.model.roles if role in manifest.engine.files), HEAD]
    return {name: manifest.files[name].sha256 for name in names if name in manifest.files}


def misplaced(calibration: Calibration, manifest: BundleManifest, content: str) -> str | None:
    """Why a calibration is none of this bundle, in a clause; None where it is. `content`: the bundle's content hash."""
    if not manifest.model.weights.trained:
        return "the weights are untrained, and their scores say nothing"
    if calibration.content_sha256 != content:
        return f"it was measured with the content {calibration.content_sha256[:16]}..., this is {content[:16]}..."
    if calibration.files != decided_files(manifest):
        return "it names other engine files, or another head"
    precision = calibration.conditions.precision
    if precision != manifest.engine.precision:
        return f"it was measured in {precision}, the engines are in {manifest.engine.precision}"
    return None


def check_decision(manifest: BundleManifest, text: str, folder: Path) -> None:
    """Raises BundleInvalid where the manifest, whose text is given, holds a decision that is not this bundle's."""
    if manifest.decision is None:
        return
    if (problem := misplaced(manifest.decision, manifest, content_sha256(text))) is not None:
        raise BundleInvalid(
            f"{folder / MANIFEST}: the decision belongs to another bundle: {problem}; take it out with "
            f"`glass-rt calibrate --remove --engine {folder}`, and calibrate again"
        )


def install_calibration(folder: Path, calibration: Calibration) -> None:
    """Makes `calibration` the decision of a bundle, in place of the one that it had.

    Raises CalibrationInvalid where it was measured with another content, BundleNotFound, BundleInvalid, and GlassError
    where the manifest cannot be written or another process is writing it. The bundle is then as it was.
    """

    def with_calibration(values: Mapping[str, Any]) -> dict[str, Any]:
        text = manifest_text(without_decision(values))
        manifest = bundle_from_json(text, str(folder / MANIFEST))
        if (problem := misplaced(calibration, manifest, content_sha256(text))) is not None:
            raise CalibrationInvalid(f"{folder}: the calibration does not belong to this bundle: {problem}")
        return with_decision(values, calibration)

    with _only_writer_of_manifest(folder):
        _replace_manifest(folder, manifest_text(with_calibration(_values(folder))))


def remove_calibration(folder: Path) -> bool:
    """Takes the decision out of a bundle, a damaged or foreign one too; False where it has none.

    Raises BundleNotFound, BundleInvalid, and GlassError where the manifest cannot be written or another process is
    writing it. The bundle is then as it was.
    """
    with _only_writer_of_manifest(folder):
        values = _values(folder)
        if DECISION not in values and values["schema"] == SCHEMA:
            return False
        _replace_manifest(folder, manifest_text(without_decision(values)))
        return True


def _values(folder: Path) -> dict[str, Any]:
    return manifest_values(read_manifest(folder), str(folder / MANIFEST))


@contextmanager
def _only_writer_of_manifest(folder: Path) -> Iterator[None]:
    read_manifest(folder)  # before a folder is made in what is no bundle
    try:
        (folder / BESIDE).mkdir(exist_ok=True)
        with locked_file(folder / BESIDE / f"{MANIFEST}-lock"):
            for unfinished in (folder / BESIDE).glob(f"{_UNFINISHED}*"):  # of a process that was killed
                unfinished.unlink(missing_ok=True)
            yield
    except Taken as taken:
        raise GlassError(f"{folder} is being calibrated by {taken}; wait until it has ended") from None
    except OSError as error:
        raise GlassError(f"{folder / MANIFEST} cannot be written: {error.strerror}; the bundle is as it was") from error


def _replace_manifest(folder: Path, text: str) -> None:
    """One rename, of a file that is on the disk; the manifest keeps its mode under every umask."""
    new = folder / BESIDE / f"{_UNFINISHED}{secrets.token_hex(4)}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE((folder / MANIFEST).stat().st_mode))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / MANIFEST)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
