"""What `glass-rt bench decode` found of a bundle and the decoder of a device, kept where an opening finds it.

A decoder on a device gives other pixels than the CPU. Whether that matters depends on the bundle and on the images, so
the user measures it on theirs. Where it was refused, `decode="device"` is refused from then on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import ParityError
from glass_rt.machine.cache_files import read_cached, user_places, write_cached
from glass_rt.machine.device import is_cpu, named_gpu
from glass_rt.machine.environment import CODEC_PACKAGES, installed

MOST_LOGITS = 0.05  # largest accepted difference of a logit between pixels of the device's decoder and the CPU's


def note_outcome(bundle: Bundle, device: str, refused: str | None) -> None:
    """Keeps the outcome for this bundle's content, GPU, driver and decoder; `refused`: why, or None where it passed."""
    circumstances = _circumstances(bundle, device)
    text = json.dumps({**circumstances, "refused": refused}, indent=2) + "\n"
    write_cached(text.encode(), _place(circumstances))


def check_not_refused(bundle: Bundle, device: str) -> None:
    """Raises ParityError where the last outcome for this bundle and device was a refusal."""
    circumstances = _circumstances(bundle, device)
    try:
        outcome = json.loads(read_cached(_place(circumstances)) or b"{}")
        refused = outcome.get("refused") if all(outcome.get(key) == circumstances[key] for key in circumstances) else 0
    except (ValueError, AttributeError, RecursionError):  # not one of ours
        return
    if isinstance(refused, str):
        raise ParityError(
            f"decode: glass-rt bench decode refused this GPU's decoder for this bundle ({refused}); leave --decode "
            "device away, or measure again"
        )


def _circumstances(bundle: Bundle, device: str) -> dict[str, Any]:
    gpu = None if is_cpu(device) else named_gpu(device)
    versions = [f"{name} {number}" for name in CODEC_PACKAGES if (number := installed(name))]
    return {"bundle_sha256": bundle.content_sha256, "gpu": gpu and asdict(gpu), "decoder": ", ".join(versions)}


def _place(circumstances: Mapping[str, Any]) -> tuple[Path, ...]:
    text = json.dumps(circumstances, sort_keys=True)
    return user_places("decode", f"{hashlib.sha256(text.encode()).hexdigest()}.json")
