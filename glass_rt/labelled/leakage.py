"""Does the label hide in the size or the format of the images? Then a score may say nothing of their content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# Megapixels from which a class begins: web pictures, generators' 1 MP, phones, cameras.
_SIZE_BOUNDS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
LEAK = 0.10  # a guess by group alone that is this much better than the base rate is worth a warning


@dataclass(frozen=True)
class Guess:
    """How often the likelier label of an image's group is right, against the same guess for every image.

    Both classes weigh alike, however many images they have: `base_rate` is 0.5, or 1 where there is one class.
    """

    by: str
    accuracy: float
    base_rate: float

    @property
    def leaks(self) -> bool:
        """Whether the label hides in the grouping."""
        return self.accuracy - self.base_rate > LEAK


def size_class(width: int, height: int) -> str:
    """The class of an image's size, for a table: `1-2 MP`."""
    megapixels = width * height / 1e6
    low = max(bound for bound in _SIZE_BOUNDS if bound <= megapixels)
    higher = [bound for bound in _SIZE_BOUNDS if bound > low]
    return f"{low:g}-{higher[0]:g} MP" if higher else f"over {low:g} MP"


def guess_by_group(by: str, groups: Sequence[str], fake: Sequence[bool]) -> Guess:
    """The guess that knows nothing but the group."""
    counts = Counter(zip(groups, fake, strict=True))
    fakes = sum(fake)
    if fakes in (0, len(fake)):
        return Guess(by, 1.0, 1.0)
    right = sum(
        max(counts[group, True] / fakes, counts[group, False] / (len(fake) - fakes)) for group in sorted(set(groups))
    )
    return Guess(by, right / 2, 0.5)
