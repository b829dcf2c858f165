"""Were the labelled images there when a model was trained? Then its scores on them are too good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from glass_rt.labelled.labels import LabelledImage

_SEEN = ("train", "val")  # the one teaches the weights, the other chooses the epoch


def part_warnings(images: Sequence[LabelledImage]) -> Iterator[str]:
    """A warning where some of the images lie in parts that training reads, or none."""
    counts = Counter(image.split for image in images)
    seen = [f"{counts[part]} in `{part}`" for part in _SEEN if counts[part]]
    if seen:
        yield (
            f"of {len(images)} images, {' and '.join(seen)}: a model that was trained with them has better scores "
            "there than on others; leave them out by naming the folder, or a table, of another part"
        )
