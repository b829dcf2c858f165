"""Where engines run, as text: `cpu`, `cuda` or `cuda:N`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glass_rt.errors import UsageError
from glass_rt.machine.environment import Gpu, gpus

_SPELLINGS = {"cpu": "cpu", "cuda": "cuda or cuda:N"}


@dataclass(frozen=True)
class Device:
    """A kind of device, `cpu` or `cuda`, and its number among those of its kind."""

    kind: str
    index: int = 0


def device_from_text(text: str, kinds: Sequence[str], engines: str) -> Device:
    """The device that `text` names, of one of `kinds`; `engines` says in the error whose engines run there.

    Raises UsageError.
    """
    kind, colon, index = text.partition(":")
    numbered = not colon or (kind == "cuda" and index.isascii() and index.isdigit())
    if kind not in kinds or not numbered:
        choices = ", ".join(_SPELLINGS[choice] for choice in kinds)
        raise UsageError(f"device: got {text!r}; {engines} engines run on {choices}")
    return Device(kind, int(index or 0))


def is_cpu(text: str) -> bool:
    """Whether a device's text names the processor; the backend refuses what is not well-formed."""
    return text == "cpu"


def named_gpu(text: str | None) -> Gpu | None:
    """The NVIDIA GPU that `cuda` or `cuda:N` names, by CUDA's numbers; None where there is no such.

    Without a number, or with one that is none, it is the first: the backend refuses what is not well-formed.
    """
    _, _, index = (text or "cuda").partition(":")
    found, number = gpus(), int(index) if index.isdecimal() else 0
    return found[number] if number < len(found) else None
