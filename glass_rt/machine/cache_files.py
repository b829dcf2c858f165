"""Files that save time and may be lost: what a vendor's library measured or compiled for this machine.

They lie in the bundle's `cache/` folder, outside of its manifest; in the user's cache folder where the bundle's cannot
be written, and for a pinned bundle, whose `cache/` is not read. A library acts on what it reads here, so only files of
this user's are read; a damaged one is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from glass_rt.machine.regular_file import RegularFile, read_regular
from glass_rt.machine.write_whole import write_whole

BESIDE = "cache"  # a folder in the bundle
CACHE_VARIABLE = "GLASS_RT_CACHE"
_DIGEST_BYTES = 32
_MOST_OF_MANIFEST = 1 << 24


def user_cache() -> Path:
    """`$GLASS_RT_CACHE`, else `glass-rt` under the user's cache folder. Raises RuntimeError where there is no home."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    general = Path(os.environ.get("XDG_CACHE_HOME", ""))  # to be ignored where it is relative, says its specification
    return (general if general.is_absolute() else Path.home() / ".cache") / "glass-rt"


def user_places(*parts: str) -> tuple[Path, ...]:
    """The file of that name under the user's cache folder; none where `why_no_user_cache` gives a reason."""
    return () if why_no_user_cache() else (user_cache().joinpath(*parts),)


def why_no_user_cache() -> str | None:
    """Why nothing may be kept in the user's cache folder, as a clause; None where it may be tried."""
    try:
        folder = user_cache()
    except RuntimeError:
        return f"this user has no home, and {CACHE_VARIABLE} names no folder"
    real = Path(os.path.realpath(folder))
    for place in (real, *real.parents):
        if _is_bundle(place):
            return f"{folder} lies in the bundle {place}, which may hold no other files"
    return None


def _is_bundle(folder: Path) -> bool:
    """Whether a folder's manifest says that it is a bundle or a portable model."""
    try:
        values = json.loads(read_regular(folder / "manifest.json", _MOST_OF_MANIFEST))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("kind") in ("bundle", "portable")


def place_matplotlib() -> None:
    """Has matplotlib keep its list of fonts in our folder of the user's cache, unless the user has said where.

    To be called before it is imported. It is silent about a folder that cannot be written.
    """
    for place in user_places("matplotlib"):
        os.environ.setdefault("MPLCONFIGDIR", str(place))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def places_for(bundle: Path, name: str, own: tuple[str, ...], *, pinned: bool) -> tuple[Path, ...]:
    """Where the file `name` of a bundle's folder may lie: in its cache, and where that cannot be written, at `own`.

    `own`: the parts of its name in the user's cache. Where the bundle is `pinned` it lies only there: the pin does not
    cover what lies in the bundle's cache.
    """
    return user_places(*own) if pinned else (bundle / BESIDE / name, *user_places(*own))


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
