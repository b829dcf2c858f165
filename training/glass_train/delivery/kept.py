"""What is computed once for a delivery and kept on disk: its global view, and the whole picture where that is small."""

from __future__ import annotations

import os
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from glass_rt.errors import GlassError
from glass_rt.image.decode import Pixels
from glass_rt.machine.write_whole import write_whole

_CHECKSUM_BYTES = 4


class KeptViews:
    """One file of records, each a checksum and a view, uint8 (size, size, 3); sparse where nothing was written.

    Several processes may read and write it at once. A record that a killed process left half-written fails its checksum
    and counts as absent.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._shape = (size, size, 3)
        self._record_bytes = _CHECKSUM_BYTES + size * size * 3
        self._descriptor: int | None = None

    def read(self, slot: int) -> Pixels | None:
        """The view of a slot; None where there is none."""
        record = os.pread(self._open(), self._record_bytes, slot * self._record_bytes)
        view = record[_CHECKSUM_BYTES:]
        if len(record) < self._record_bytes or record[:_CHECKSUM_BYTES] != _checksum(view):
            return None
        return np.frombuffer(view, np.uint8).reshape(self._shape)

    def write(self, slot: int, view: Pixels) -> None:
        """Keeps a view. Raises GlassError where the disk does not take it."""
        assert view.shape == self._shape
        assert view.dtype == np.uint8
        data = view.tobytes()
        try:
            written = os.pwrite(self._open(), _checksum(data) + data, slot * self._record_bytes)
        except OSError as error:
            raise _not_kept(self._path, error) from error
        if written < self._record_bytes:
            raise _not_kept(self._path, OSError("the disk is full"))

    def close(self) -> None:
        """Closes the file; calling it twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._descriptor

    def __getstate__(self) -> dict[str, object]:  # another process opens the file itself
        return {**self.__dict__, "_descriptor": None}


class KeptPictures:
    """A folder of delivered pictures of at most `limit_bytes` each; larger ones are not kept."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def takes(self, height: int, width: int) -> bool:
        """Whether a picture of that size is kept."""
        return height * width * 3 <= self._limit_bytes

    def read(self, slot: int) -> Pixels | None:
        """The picture of a slot, uint8 (H, W, 3); None where there is none."""
        try:
            picture: Pixels = np.load(self._path(slot))
        except (FileNotFoundError, EOFError, ValueError):
            return None
        return picture

    def write(self, slot: int, picture: Pixels) -> None:
        """Keeps a picture. Raises GlassError where the disk does not take it."""
        file = BytesIO()
        np.save(file, np.ascontiguousarray(picture))
        path = self._path(slot)
        try:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, file.getvalue())
        except OSError as error:
            raise _not_kept(path, error) from error

    def _path(self, slot: int) -> Path:
        return self._folder / f"{slot // 1000:04d}" / f"{slot}.npy"


def _checksum(view: bytes) -> bytes:
    return zlib.crc32(view).to_bytes(_CHECKSUM_BYTES, "little")


def _not_kept(path: Path, error: OSError) -> GlassError:
    reason = error.strerror or str(error)
    return GlassError(f"{path}: {reason}; free some space, or keep fewer deliveries of an image")
