"""How images are judged, and how the engines are run that judge them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from glass_rt.bundle.manifest import check_threshold
from glass_rt.errors import UsageError
from glass_rt.image.encoded import DEFAULT_MAX_PIXELS
from glass_rt.image.sampling import MAX_SEED, Mode
from glass_rt.machine.limits.memory import LEAST_MEMORY

Crops = int | Literal["auto"] | None
DEFAULT_MARGIN = 3.0
DECODERS = ("cpu", "device")


def crops_from_text(text: str) -> Crops:
    """What `--crops` and requests mean by a text: `auto`, or a number. Raises UsageError."""
    return "auto" if text == "auto" else whole_number("crops", text, "a number from 1 on, or auto")


def seed_from_text(text: str) -> int:
    """What requests mean by a text: a number. Raises UsageError."""
    return whole_number("seed", text, "0..2^64-1")


def whole_number(name: str, text: str, expected: str) -> int:
    """A number from 0 on in ASCII digits; raises UsageError, saying what of the option `name` is `expected`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise UsageError(f"{name}: got {text[:40]!r}; expected {expected}")
    return int(text)


@dataclass(frozen=True)
class RunOptions:
    """How a bundle is opened and its engines are run; every field has the meaning of the option of its name.

    `device`: `cpu`, `cuda:1`, `coreml`, `plugin:webgpu` and such, by `glass_rt.machine.device` (None: what the bundle
    was built for). `batch`: most views in one run of an engine, up to the bundle's `max_batch` (None: on a CPU 4 to 16
    by its cores, elsewhere all of it). `threads`: CPU threads of an engine (None: one per physical core).
    `expect_bundle`: the bundle's SHA-256, which pins it. `workers`: threads that decode (None: one per core, at most 8;
    for engines on a GPU one per core but one). `views`: `device` has the GPU cut the crops and resize the image, for
    TensorRT engines. `decode`: `device` has the NVIDIA GPU of the engines decode the JPEGs that it can, beside the
    threads; with TensorRT engines of GLASS `views` is `device` too. `memory`: bytes that this process may hold, on top
    of the limits that the system sets it; the defaults of `batch` and `workers` follow the lowest. `cache`: keep what
    OpenVINO has compiled for this processor, and open engines by it.
    """

    device: str | None = None
    batch: int | None = None
    threads: int | None = None
    expect_bundle: str | None = None
    workers: int | None = None
    views: str = "host"
    decode: str = "cpu"
    memory: int | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers: got {self.workers}; at least one is needed")
        if self.memory is not None and self.memory < LEAST_MEMORY:
            raise UsageError(f"memory: got {self.memory} bytes; at least {LEAST_MEMORY} are needed")
        if self.decode not in DECODERS:
            raise UsageError(f"decode: got {self.decode!r}; expected {' or '.join(DECODERS)}")


@dataclass(frozen=True)
class DetectOptions:
    """Every field has the meaning of the command-line option of its name.

    `crops`: windows per image (None: as trained; `auto`: as few of those as the verdict needs, see
    `glass_rt.inference.judge`). `margin`: with `auto`, standard errors between the probability and the threshold at
    which no further crops are looked at. `draws`: independent samplings with seeds S, S + 1, ...; the probability is
    their mean. `sampling`: `stratified`, or `tiles` for every window. `seed`: 0..2^64-1 (None: from the image's own
    SHA-256). `threshold`: P(fake) from which the label is `fake`, in place of the bundle's decision and without its
    guarantee (None: as the bundle was calibrated, else the bundle's threshold). `max_pixels`: larger images
    are refused before decoding.
    """

    crops: Crops = None
    margin: float = DEFAULT_MARGIN
    draws: int = 1
    sampling: Mode = "stratified"
    seed: int | None = None
    threshold: float | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        if isinstance(self.crops, int) and self.crops < 1:
            raise UsageError(f"crops: got {self.crops}; at least one is needed")
        if isinstance(self.crops, str) and self.crops != "auto":
            raise UsageError(f"crops: got {self.crops!r}; expected a number or auto")
        if not self.margin > 0:
            raise UsageError(f"margin: got {self.margin}; expected a positive number of standard errors")
        if self.draws < 1:
            raise UsageError(f"draws: got {self.draws}; at least one is needed")
        if self.sampling not in ("stratified", "tiles"):
            raise UsageError(f"sampling: got {self.sampling!r}; expected stratified or tiles")
        if self.sampling == "tiles" and (self.crops is not None or self.draws > 1):
            raise UsageError("tiles are every window of the image: neither crops nor draws can be chosen")
        if self.crops == "auto" and self.draws > 1:
            raise UsageError("draws: cannot be combined with crops auto, which looks at as few crops as it can")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed: got {self.seed}; expected 0..2^64-1")
        if self.threshold is not None:
            check_threshold(self.threshold)
        if self.max_pixels < 1:
            raise UsageError(f"max_pixels: got {self.max_pixels}; expected a positive number of pixels")
