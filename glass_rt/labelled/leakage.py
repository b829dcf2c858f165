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
    """How often the majority label of an image's group is right, against that of all images together."""

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
    right = sum(max(counts[group, True], counts[group, False]) for group in set(groups))
    fakes = sum(fake)
    return Guess(by, right / len(fake), max(fakes, len(fake) - fakes) / len(fake))
