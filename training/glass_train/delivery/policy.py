"""Which deliveries are drawn, and how often: the same for both classes, so that none of them gives a label away."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import get_args

from glass_rt.errors import UsageError
from glass_train.delivery.jpeg import Subsampling
from glass_train.delivery.pillow_axis import Filter

_PROBABILITIES = (
    "horizontal_flip",
    "vertical_flip",
    "blur",
    "rescale",
    "thumbnail",
    "noise",
    "jpeg",
    "second_jpeg",
    "webp",
)


@dataclass(frozen=True)
class Policy:
    """Probabilities (0..1) of the steps, and the ranges from which their values are drawn evenly, both ends included.

    The steps come in this order: flips, blur, a rescale or a thumbnail, noise, and one or two rounds of coding.
    `thumbnail` is the share of deliveries that are thumbnails; `rescale` that of the others which are rescaled.
    `second_jpeg` is the share of coded pictures that are coded again. `webp` is the share of rounds that WebP codes in
    JPEG's place: such a round needs the whole picture for any window.
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    blur: float = 0.1
    blur_sigma: tuple[float, float] = (0.3, 1.0)  # pixels
    thumbnail: float = 0.15
    thumbnail_side: tuple[int, int] = (180, 320)  # pixels, the shorter side
    rescale: float = 0.7
    rescale_factor: tuple[float, float] = (0.4, 1.3)
    filters: tuple[Filter, ...] = get_args(Filter)
    noise: float = 0.1
    noise_sigma: tuple[float, float] = (0.5, 2.0)  # levels of 255
    jpeg: float = 0.85
    second_jpeg: float = 0.3
    quality: tuple[int, int] = (30, 95)
    subsamplings: tuple[Subsampling, ...] = ("4:2:0", "4:2:0", "4:2:0", "4:2:2", "4:4:4")  # drawn evenly
    webp: float = 0.0

    def __post_init__(self) -> None:
        for name in _PROBABILITIES:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise UsageError(f"{name}: got {value!r}; expected a probability, 0 to 1")
        self._check_range("blur_sigma", 0.1, 5.0)
        self._check_range("thumbnail_side", 16, 4096)
        self._check_range("rescale_factor", 0.05, 4.0)
        self._check_range("noise_sigma", 0.0, 64.0)
        self._check_range("quality", 1, 100)
        self._check_choices("filters", get_args(Filter))
        self._check_choices("subsamplings", get_args(Subsampling))

    def _check_range(self, name: str, lowest: float, highest: float) -> None:
        ends = getattr(self, name)
        if not isinstance(ends, tuple) or [type(end) in (int, float) for end in ends] != [True, True]:
            raise UsageError(f"{name}: got {ends!r}; expected two numbers, the lowest and the highest")
        low, high = ends
        if not lowest <= low <= high <= highest:
            raise UsageError(f"{name}: got {low} to {high}; expected a range within {lowest:g} to {highest:g}")

    def _check_choices(self, name: str, choices: tuple[str, ...]) -> None:
        chosen = getattr(self, name)
        if not isinstance(chosen, tuple) or not chosen or any(choice not in choices for choice in chosen):
            got = ", ".join(map(str, chosen)) if isinstance(chosen, tuple) else repr(chosen)
            raise UsageError(f"{name}: got {got or 'nothing'}; choose among {', '.join(choices)}")


UNCHANGED = Policy(**dict.fromkeys(_PROBABILITIES, 0.0))  # type: ignore[arg-type]


def policy_from(values: dict[str, object]) -> Policy:
    """A policy from a mapping as a configuration holds it; lists stand for tuples. Raises UsageError."""
    known = {field.name for field in fields(Policy)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"delivery policy: {', '.join(unknown)} is not known; choose among {', '.join(sorted(known))}")
    return Policy(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})  # type: ignore[arg-type]
