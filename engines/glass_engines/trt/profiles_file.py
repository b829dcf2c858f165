"""Profiles as TOML files: which batch sizes engines are tuned for, by role and kind of GPU.

One optimisation profile per `[[global]]` or `[[local]]` table. The vendor accepts profiles that contradict each other
or leave gaps, so they are checked here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from glass_rt.bundle.from_json import record_from_json
from glass_rt.bundle.requirements import Profile, Shapes
from glass_rt.errors import BundleInvalid, UsageError
from glass_rt.machine.named_file import read_named_text

if sys.version_info >= (3, 11):
    import tomllib
else:  # Jetson's Python is 3.10
    import tomli as tomllib

DEFAULT_PROFILE = "rtx"
ROLES = ("global", "local")
_SUFFIX = ".toml"


@dataclass(frozen=True)
class ProfileFile:
    """A profile and what goes with it: the GPUs (words of their names) it is meant for, and the builder's effort."""

    profile: Profile
    gpus: tuple[str, ...]
    workspace_mb: int
    optimisation_level: int


def shipped_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with glass-rt."""
    folder = files("glass_engines") / "profiles"
    return tuple(sorted(item.name.removesuffix(_SUFFIX) for item in folder.iterdir() if item.name.endswith(_SUFFIX)))


def find_profile(name: str | None, gpu_names: Iterable[str] = ()) -> ProfileFile:
    """The profile of that name or file; None: the one for this machine's GPU, else `rtx`. Raises UsageError."""
    if name is None:
        words = {word for gpu in gpu_names for word in gpu.replace("-", " ").split()}
        shipped = [find_profile(candidate) for candidate in shipped_profiles()]
        matching = [found for found in shipped if words & set(found.gpus)]
        return matching[0] if matching else find_profile(DEFAULT_PROFILE)
    if name in shipped_profiles():
        text = (files("glass_engines") / "profiles" / f"{name}{_SUFFIX}").read_text(encoding="utf-8")
        return profile_from_toml(name, text)
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"profile: got {name!r}; expected one of {', '.join(shipped_profiles())}, or a TOML file")
    try:
        text = read_named_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"profile {name} cannot be read: {error}") from None
    return profile_from_toml(path.stem, text)


def profile_from_toml(name: str, text: str) -> ProfileFile:
    """Parses and checks a profile file; raises UsageError by the name of what is wrong."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"profile {name}: not TOML: {error}") from None
    known = {"gpus", "workspace_mb", "optimisation_level", *ROLES}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"profile {name}: {', '.join(unknown)}: unknown; expected {', '.join(sorted(known))}")
    try:
        shapes = {
            role: tuple(
                record_from_json(Shapes, table, f"profile {name}: {role}[{index}]")
                for index, table in enumerate(values.get(role, ()))
            )
            for role in ROLES
        }
    except BundleInvalid as error:
        raise UsageError(str(error)) from None
    for role, buckets in shapes.items():
        _check_buckets(f"profile {name}: {role}", buckets)
    return ProfileFile(
        Profile(name, shapes),
        tuple(values.get("gpus", ())),
        int(values.get("workspace_mb", 1024)),
        int(values.get("optimisation_level", 3)),
    )


def with_max_batch(file: ProfileFile, max_batch: int | None) -> ProfileFile:
    """The profile cut off, or its last bucket stretched, at `max_batch`, for both roles."""
    if max_batch is None:
        return file
    shapes = {role: _reaching(buckets, max_batch) for role, buckets in file.profile.shapes.items()}
    return replace(file, profile=replace(file.profile, shapes=shapes))


def _reaching(buckets: tuple[Shapes, ...], high: int) -> tuple[Shapes, ...]:
    smaller = [bucket for bucket in buckets if bucket.high < high]
    last = next((bucket for bucket in buckets if bucket.high >= high), buckets[-1])
    if smaller and last is smaller[-1]:
        smaller.pop()
    best = high if last.best == last.high else min(last.best, high)
    return (*smaller, Shapes(min(last.low, high), best, high))


def _check_buckets(where: str, buckets: tuple[Shapes, ...]) -> None:
    if not buckets:
        raise UsageError(f"{where}: missing; every profile needs at least one table [[{where.rsplit(' ', 1)[-1]}]]")
    if buckets[0].low != 1:
        raise UsageError(f"{where}: the first bucket begins at {buckets[0].low}; a single view must fit, so at 1")
    for lower, upper in pairwise(buckets):
        if upper.high <= lower.high:
            raise UsageError(f"{where}: a bucket up to {upper.high} follows one up to {lower.high}; expected a larger")
        if upper.low > lower.high + 1:
            raise UsageError(f"{where}: no bucket takes {lower.high + 1}..{upper.low - 1} views")
