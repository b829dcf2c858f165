"""The images of a benchmark: found, thinned, and copied in other sizes."""

from pathlib import Path

from glass_bench.measure.images import find_bench_images, sized_copies, thin


def test_images_are_thinned_over_their_sizes(labelled: Path) -> None:
    images, refused = find_bench_images(labelled)
    assert (len(images), refused) == (12, [])
    assert images[0].name.startswith(("fake/", "real/"))
    chosen = thin(images, 3)
    assert (chosen[0], chosen[-1]) == (images[0], images[-1])


def test_sized_copies_have_their_sizes_and_vanish(labelled: Path) -> None:
    images, _ = find_bench_images(labelled)
    with sized_copies(images[-1], (0.5, 1)) as copies:
        assert [round(copy.megapixels, 1) for copy in copies] == [0.5, 1.0]
        assert all(Path(copy.path).is_file() for copy in copies)
    assert not any(Path(copy.path).exists() for copy in copies)
