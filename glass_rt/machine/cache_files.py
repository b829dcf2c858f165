"""Files that save time and may be lost: what a vendor's library measured or compiled for this machine.

They lie in the bundle's `cache/` folder, outside of its manifest, or in the user's cache folder where the bundle's
cannot be written, or is not read because the bundle is pinned. A library acts on what it reads here, so only files of
this user's are read; a damaged one is as good as none.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from glass_rt.machine.regular_file import RegularFile
from glass_rt.machine.write_whole import write_whole

BESIDE = "cache"  # a folder in the bundle
CACHE_VARIABLE = "GLASS_RT_CACHE"
_DIGEST_BYTES = 32


def user_cache() -> Path:
    """`$GLASS_RT_CACHE`, else `glass-rt` under the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glass-rt"


def user_places(*parts: str) -> tuple[Path, ...]:
    """The file of that name under the user's cache folder; none where the user has no home and names no folder."""
    try:
        return (user_cache().joinpath(*parts),)
    except RuntimeError:
        return ()


def place_matplotlib() -> None:
    """Has matplotlib keep its list of fonts in our folder of the user's cache, unless the user has said where.

    To be called before it is imported. It is silent about a folder that cannot be written.
    """
    for place in user_places("matplotlib"):
        os.environ.setdefault("MPLCONFIGDIR", str(place))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def places_for(bundle: Path, name: str, own: tuple[str, ...], *, pinned: bool) -> tuple[Path, ...]:
    """Where the file `name` of a bundle's folder may lie: in its cache; where that cannot be written, also at `own`.

    `own`: the parts of its name in the user's cache. Where the bundle is `pinned` it lies only there: the pin does not
    cover what lies in the bundle's cache.
    """
    beside = bundle / BESIDE / name
    if not pinned and os.access(bundle, os.W_OK):
        return (beside,)
    return user_places(*own) if pinned else (beside, *user_places(*own))


def keep_newest(folder: Path, suffix: str, most: int) -> None:
    """Removes the oldest files of a folder whose names end in `suffix`, until there are `most`."""
    try:
        aged = sorted((path.stat().st_mtime, path) for path in folder.iterdir() if path.name.endswith(suffix))
        for _, path in aged[:-most]:
            path.unlink(missing_ok=True)
    except OSError:  # another process is at it, or it may not be written
        return


def write_cached(data: bytes, places: Iterable[Path]) -> Path | None:
    """Writes `data`, behind its SHA-256, at the first of the places that can be written; None where none can."""
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, hashlib.sha256(data).digest() + data, private=True)
        except OSError:
            continue
        return place
    return None


def read_cached(places: Iterable[Path], most: int | None = None) -> bytes | None:
    """The first of these files that is whole, of at most `most` bytes, this user's, and writable by this user alone."""
    for place in places:
        try:
            file = RegularFile.open(place)
        except OSError:
            continue
        try:
            status = os.fstat(file.descriptor)
            if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
                continue
            if most is not None and status.st_size > most + _DIGEST_BYTES:
                continue
            content = file.read(status.st_size)
        except OSError:
            continue
        finally:
            file.close()
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() == digest:
            return data
    return None
