"""Parity that was pending when the bundle was built: the gate is passed at the first opening where the engines can run.

So it is where engines that passed it on a CPU are opened on a GPU, or the other way round.

The outcome lies in the bundle's `cache/` folder, outside of the manifest, so that the bundle stays the one that was
pinned. Where the caller pins it, the outcome lies in the user's cache folder: the pin does not cover what is in the
bundle's. It holds for one bundle on one kind of GPU, driver and library version; elsewhere the gate is passed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from glass_rt.backends import Backend
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import Parity
from glass_rt.errors import ParityError
from glass_rt.inference.parity import verify_parity
from glass_rt.machine.cache_files import BESIDE, read_cached, user_places, write_cached
from glass_rt.machine.device import is_cpu, named_gpu
from glass_rt.machine.environment import BACKEND_PACKAGES, installed
from glass_rt.machine.gpu_advice import rebuild_command
from glass_rt.machine.regular_file import read_regular
from glass_rt.machine.write_whole import write_whole

RECORD = f"{BESIDE}/parity.json"
_MOST_RECORD = 1 << 16  # bytes


def resolve_parity(bundle: Bundle, engines: Mapping[str, Backend], device: str | None = None) -> Parity:
    """The bundle's parity: as built, as found here before, or by passing the gate now and noting the outcome.

    Raises ParityError, saying what to do, where the engines fail the gate; a bundle in a folder that cannot be written
    passes it at every opening.
    """
    built = bundle.manifest.parity
    if not _is_pending(bundle, device):
        return built
    circumstances = _circumstances(bundle, device)
    if (known := _found_here(bundle, circumstances)) is not None:
        return known
    try:
        parity = verify_parity(bundle, engines)
    except ParityError as error:
        _note(bundle, circumstances, {"status": "failed", "reason": str(error)})
        engine = bundle.manifest.engine
        command = rebuild_command(str(bundle.folder), engine.backend, engine.precision)
        where = "machine" if circumstances["gpu"] is None else "GPU"
        raise ParityError(
            f"{bundle.folder} does not compute what PyTorch computes on this {where}: {error}. "
            f"Build it for this machine ({command}), or in fp32"
        ) from error
    _note(bundle, circumstances, asdict(parity))
    return parity


def known_parity(bundle: Bundle, device: str | None = None) -> Parity:
    """What is known of the bundle's parity on this machine, without running anything."""
    built = bundle.manifest.parity
    if not _is_pending(bundle, device):
        return built
    pending = replace(built, status="pending", embedding=None, logits=None)
    return _found_here(bundle, _circumstances(bundle, device)) or pending


def _is_pending(bundle: Bundle, device: str | None) -> bool:
    """Whether the build left it open, or the engines are to run on another kind of device than they passed it on."""
    built_for = bundle.manifest.engine.device
    elsewhere = device is not None and is_cpu(device) != is_cpu(built_for)
    return bundle.manifest.parity.status == "pending" or elsewhere


def _circumstances(bundle: Bundle, device: str | None) -> dict[str, Any]:
    engine = bundle.manifest.engine
    gpu = None if is_cpu(device or engine.device) else named_gpu(device)
    packages = [engine.requirements.library] if engine.requirements else BACKEND_PACKAGES[engine.backend]
    present = [f"{name} {number}" for name in packages if (number := installed(name))]
    return {"bundle_sha256": bundle.content_sha256, "gpu": gpu and asdict(gpu), "library": ", ".join(present)}


def _found_here(bundle: Bundle, circumstances: Mapping[str, Any]) -> Parity | None:
    try:
        record = json.loads(_noted(bundle, circumstances))
        if record["status"] != "passed" or any(record[key] != value for key, value in circumstances.items()):
            return None
        figures = ("embedding", "logits", "embedding_tolerance", "logits_tolerance")
        return Parity("passed", *(float(record[name]) for name in figures))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        OverflowError,
    ):  # none yet, or not one of ours: the gate decides
        return None


def _noted(bundle: Bundle, circumstances: Mapping[str, Any]) -> bytes:
    if not bundle.pinned:
        return read_regular(bundle.folder / RECORD, _MOST_RECORD)
    noted = read_cached(_own_record(circumstances))
    if noted is None:
        raise FileNotFoundError("nothing is noted of this bundle here")
    return noted


def _note(bundle: Bundle, circumstances: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
    text = (json.dumps({**circumstances, **outcome}, indent=2) + "\n").encode()
    if bundle.pinned:
        write_cached(text, _own_record(circumstances))
        return
    path = bundle.folder / RECORD
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_whole(path, text)


def _own_record(circumstances: Mapping[str, Any]) -> tuple[Path, ...]:
    """In the user's cache folder; it is named after what it holds for."""
    text = json.dumps(circumstances, sort_keys=True)
    return user_places("parity", f"{hashlib.sha256(text.encode()).hexdigest()}.json")
