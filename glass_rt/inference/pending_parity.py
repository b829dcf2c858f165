"""Parity that was pending when the bundle was built: the gate is passed at the first opening where the engines can run.

So it is where engines that passed it on one kind of device are opened on another, such as a CPU's on a GPU.

The outcome lies in the bundle's `cache/` folder, outside of the manifest, so that the bundle stays the one that was
pinned. Where the caller pins it, the outcome lies in the user's cache folder: the pin does not cover what is in the
bundle's. It holds for one bundle on one kind of GPU, driver and library version, and where a device is named that is
neither a plain CPU nor a plain GPU of NVIDIA's, for that text on the same system. Elsewhere the gate is passed again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from glass_rt.backends import Backend
from glass_rt.backends.ort_plugin import plugin_version
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import Parity
from glass_rt.errors import ParityError
from glass_rt.inference.parity import verify_parity
from glass_rt.machine.cache_files import BESIDE, read_cached, user_places, write_cached
from glass_rt.machine.device import device_from_text, kind_of, named_gpu
from glass_rt.machine.environment import backend_versions
from glass_rt.machine.gpu_advice import rebuild_command
from glass_rt.machine.regular_file import read_regular
from glass_rt.machine.write_whole import write_whole

RECORD = f"{BESIDE}/parity.json"
_MOST_RECORD = 1 << 16  # bytes
_ELSEWHERE = "device"  # in records of other devices than `cpu`, `cuda` and `cuda:N`


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
        engine, gpu = bundle.manifest.engine, circumstances["gpu"]
        command = rebuild_command(str(bundle.folder), engine.backend, engine.precision)
        if _ELSEWHERE in circumstances:
            raise ParityError(
                f"{bundle.folder} does not compute what PyTorch computes on {device}: {error}. "
                "Run it on another device: --device cpu"
            ) from error
        where = "machine" if gpu is None else "GPU"
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
    elsewhere = device is not None and (kind_of(device) != kind_of(built_for) or not _is_plain(device))
    return bundle.manifest.parity.status == "pending" or elsewhere


def _circumstances(bundle: Bundle, device: str | None) -> dict[str, Any]:
    engine = bundle.manifest.engine
    kind = kind_of(device or engine.device)
    gpu = named_gpu(device) if kind == "cuda" else None
    library = backend_versions()[engine.backend] or ""
    found = {"bundle_sha256": bundle.content_sha256, "gpu": gpu and asdict(gpu), "library": library}
    return found if device is None or _is_plain(device) else {**found, _ELSEWHERE: _elsewhere(device)}


def _is_plain(device: str) -> bool:
    """Whether a device is a CPU or one of CUDA's, by its number alone."""
    named = device_from_text(device)
    return named.kind in ("cpu", "cuda") and not named.options and not named.cpu_too


def _elsewhere(device: str) -> dict[str, str]:
    """Any other device: its driver is the system's, and its code may be a plug-in's."""
    named = device_from_text(device)
    plugin = plugin_version(named.name) if named.kind == "plugin" else ""
    return {"text": device, "plugin": plugin, "system": platform.platform()}


def _found_here(bundle: Bundle, circumstances: Mapping[str, Any]) -> Parity | None:
    try:
        record = json.loads(_noted(bundle, circumstances))
        if record["status"] != "passed" or any(
            record.get(key) != circumstances.get(key) for key in (*circumstances, _ELSEWHERE)
        ):
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
