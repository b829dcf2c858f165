"""Parity that was pending when the bundle was built: the gate is passed at the first opening where the engines can run.

The outcome lies in the bundle's `cache/` folder, outside of the manifest, so that the bundle stays the one that was
pinned. It holds for one bundle on one kind of GPU, driver and library version; elsewhere the gate is passed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from glass_rt.backends import Backend
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import Parity
from glass_rt.errors import ParityError
from glass_rt.inference.parity import verify_parity
from glass_rt.machine.cache_files import BESIDE
from glass_rt.machine.device import named_gpu
from glass_rt.machine.environment import installed
from glass_rt.machine.gpu_advice import rebuild_command
from glass_rt.machine.write_whole import write_whole

RECORD = f"{BESIDE}/parity.json"


def resolve_parity(bundle: Bundle, engines: Mapping[str, Backend], device: str | None = None) -> Parity:
    """The bundle's parity: as built, as found here before, or by passing the gate now and noting the outcome.

    Raises ParityError, saying what to do, where the engines fail the gate; a bundle in a folder that cannot be written
    passes it at every opening.
    """
    built = bundle.manifest.parity
    if built.status != "pending":
        return built
    circumstances = _circumstances(bundle, device)
    if (known := _found_here(bundle, circumstances)) is not None:
        return known
    try:
        parity = verify_parity(bundle, engines)
    except ParityError as error:
        _note(bundle, {**circumstances, "status": "failed", "reason": str(error)})
        engine = bundle.manifest.engine
        command = rebuild_command(str(bundle.folder), engine.backend, engine.precision)
        raise ParityError(
            f"{bundle.folder} does not compute what PyTorch computes on this GPU: {error}. "
            f"Build it for this machine ({command}), or in fp32"
        ) from error
    _note(bundle, {**circumstances, **asdict(parity)})
    return parity


def known_parity(bundle: Bundle, device: str | None = None) -> Parity:
    """What is known of the bundle's parity on this machine, without running anything."""
    built = bundle.manifest.parity
    if built.status != "pending":
        return built
    return _found_here(bundle, _circumstances(bundle, device)) or built


def _circumstances(bundle: Bundle, device: str | None) -> dict[str, Any]:
    requirements = bundle.manifest.engine.requirements
    gpu = named_gpu(device)
    library = f"{requirements.library} {installed(requirements.library)}" if requirements else None
    return {"bundle_sha256": bundle.sha256, "gpu": gpu and asdict(gpu), "library": library}


def _found_here(bundle: Bundle, circumstances: Mapping[str, Any]) -> Parity | None:
    try:
        record = json.loads((bundle.folder / RECORD).read_text(encoding="utf-8"))
        if record["status"] != "passed" or any(record[key] != value for key, value in circumstances.items()):
            return None
        figures = ("embedding", "logits", "embedding_tolerance", "logits_tolerance")
        return Parity("passed", *(float(record[name]) for name in figures))
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not one of ours: the gate decides
        return None


def _note(bundle: Bundle, record: Mapping[str, Any]) -> None:
    path = bundle.folder / RECORD
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_whole(path, (json.dumps(record, indent=2) + "\n").encode())
