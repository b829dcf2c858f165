"""Whether a label hides in the size or format of the images."""

import pytest

from glass_rt.labelled.leakage import guess_by_group, size_class


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(500, 500, "0-0.5 MP"), (1024, 1024, "1-2 MP"), (1000, 1000, "1-2 MP"), (8000, 6000, "over 32 MP")],
)
def test_size_classes(width: int, height: int, expected: str) -> None:
    assert size_class(width, height) == expected


def test_a_label_that_hides_in_a_group_leaks() -> None:
    told = guess_by_group("image size", ["small", "small", "large", "large"], [True, True, False, False])
    assert (told.accuracy, told.base_rate, told.leaks) == (1.0, 0.5, True)
    untold = guess_by_group("image size", ["small", "small", "large", "large"], [True, False, True, False])
    assert (untold.accuracy, untold.leaks) == (0.5, False)


def test_a_leak_shows_however_few_images_one_class_has() -> None:
    told = guess_by_group("file format", ["jpeg"] * 95 + ["png"] * 5, [False] * 95 + [True] * 5)
    assert (told.accuracy, told.base_rate, told.leaks) == (1.0, 0.5, True)
    assert not guess_by_group("file format", ["jpeg"] * 100, [False] * 95 + [True] * 5).leaks


def test_one_class_alone_has_nothing_to_hide() -> None:
    assert not guess_by_group("file format", ["jpeg", "png"], [True, True]).leaks
