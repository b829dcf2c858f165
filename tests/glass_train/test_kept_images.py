"""What stays in memory between epochs."""

from __future__ import annotations

from pathlib import Path

from glass_train.data.kept_images import KeptImages

from glass_rt.image.decode import Image
from glass_rt.image.encoded import load
from tests.bench_zoo import write_picture


def test_images_stay_as_far_as_there_is_room(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / f"{i}.png", (200, 90, 10 * i), 20, 10) for i in range(3)]
    decoded: list[int] = []

    def get(kept: KeptImages, index: int) -> Image:
        def decode() -> Image:
            decoded.append(index)
            return load(paths[index])

        return kept.get(index, decode)

    kept = KeptImages(most=2 * 20 * 10 * 3)
    first = [get(kept, index) for index in range(3)]
    again = [get(kept, index) for index in range(3)]
    assert decoded == [0, 1, 2, 2]
    assert all((one.pixels == other.pixels).all() for one, other in zip(first, again, strict=True))
