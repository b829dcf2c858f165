"""The search for a rate, the rounds, the choice of images, the line-up: all without a clock."""

from pathlib import Path

import pytest
from glass_bench.measure.contenders import Contender
from glass_bench.measure.images import find_bench_images, sized_copies, thin
from glass_bench.measure.load_watch import foreign_share
from glass_bench.measure.options import BenchOptions, quick
from glass_bench.measure.participants import list_participants, unique_names
from glass_bench.measure.plan import images_that_fit, rotated, rounds
from glass_bench.measure.rate_search import Probe, find_rate
from glass_bench.measure.worker import threads_each
from glass_bench.report.statistics import Repeated, ratio, repeated
from glass_bench.report.text import figure, rounded, table, times

from glass_rt.errors import UsageError


@pytest.mark.parametrize(("capacity", "start"), [(100.0, 10.0), (100.0, 400.0), (7.3, 7.0)])
def test_the_search_ends_just_below_what_is_held(capacity: float, start: float) -> None:
    found = find_rate(lambda rate: Probe(rate, 0.0, rate <= capacity), start, most=20)
    assert found.rate is not None
    assert capacity / 1.05 <= found.rate <= capacity


def test_a_search_in_vain_says_so() -> None:
    found = find_rate(lambda rate: Probe(rate, 99.0, False), 10.0, most=4)
    assert (found.rate, len(found.probes)) == (None, 4)


def test_the_search_keeps_every_probe_and_its_limit() -> None:
    found = find_rate(lambda rate: Probe(rate, 1.0, True), 1.0, most=5)
    assert [probe.rate for probe in found.probes] == [1, 1.5, 2.25, 3.375, 5.0625]


def test_rounds_end_at_the_repeats_or_at_the_budget() -> None:
    assert list(rounds(1e9, 3)) == [0, 1, 2]
    assert list(rounds(0, 5)) == [0]
    assert list(rounds(0, 5, least=2)) == [0, 1]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_contender_comes_first_as_often_as_every_other(count: int) -> None:
    names = list("abcd"[:count])
    orders = [rotated(names, number) for number in range(2 * count)]
    assert all(sorted(order) == names for order in orders)
    first = [order[0] for order in orders]
    assert sorted(first[:count]) == sorted(first[count:]) == names


@pytest.mark.parametrize("count", [3, 4, 8])
def test_none_always_follows_the_same_neighbour(count: int) -> None:
    names = list("abcdefgh"[:count])
    orders = [rotated(names, number) for number in range(5)]
    before = {(order[place], order[place - 1]) for order in orders for place in range(1, count)}
    assert all(len({other for name, other in before if name == one}) > 1 for one in names)


def test_as_many_images_as_fit() -> None:
    assert images_that_fit(60, 3, 1.0, 100) == 20
    assert images_that_fit(60, 3, 1.0, 8) == 8
    assert images_that_fit(1, 3, 10.0, 100) == 4  # fewer would not be the user's images any more


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


def test_names_are_told_apart(tmp_path: Path) -> None:
    assert unique_names([tmp_path / "a" / "vit", tmp_path / "b" / "vit"]) == ["a/vit", "b/vit"]
    assert unique_names([tmp_path / "x", tmp_path / "y"]) == ["x", "y"]
    assert unique_names([tmp_path / "x", tmp_path / "x"])[1].endswith("#2")


def test_the_line_up_has_every_kind_once(zoo: dict[str, Path], labelled: Path) -> None:
    options = BenchOptions((zoo["good"],), labelled, (zoo["good_resize"],), batches=(1, 4), workers=(2,))
    names = [participant.contender.name for participant in list_participants(options)]
    assert names == [
        "good",
        "good_resize",
        "good [PyTorch fp32]",
        "good [PyTorch bf16 autocast]",
        "good_resize [PyTorch fp32]",
        "good_resize [PyTorch bf16 autocast]",
        "good [no-op engine]",
        "good [all tiles]",
        "good [batch 1]",
        "good [batch 4]",
        "good [2 workers]",
        "good_resize [batch 1]",
        "good_resize [batch 4]",
        "good_resize [2 workers]",
    ]
    assert [participant.contender.name for participant in list_participants(quick(options))] == [
        "good",
        "good_resize",
        "good [no-op engine]",
    ]


def test_batches_beyond_the_bundles_are_no_variants(zoo: dict[str, Path], labelled: Path) -> None:
    options = BenchOptions((zoo["good"],), labelled, batches=(1, 64, 65), workers=(), pytorch=False)
    variants = [participant.contender.batch for participant in list_participants(options) if participant.variant_of]
    assert variants == [1, 64]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (("mine.pt",), "mine.pt"),  # the only one that could be meant
        (("mine.pt", "zoo.safetensors"), "zoo.safetensors"),  # by its name
        (("mine.pt", "yours.pt"), None),
    ],
)
def test_a_checkpoint_is_found_by_its_name_or_as_the_only_one(
    given: tuple[str, ...], taken: str | None, zoo: dict[str, Path], labelled: Path
) -> None:
    options = BenchOptions((zoo["good"],), labelled, checkpoints=tuple(map(Path, given)))
    found = {
        participant.contender.checkpoint
        for participant in list_participants(options)
        if participant.contender.kind == "pytorch"
    }
    assert found == {taken}


@pytest.mark.parametrize(("threads", "workers", "each"), [(None, 1, None), (6, 1, 6), (6, 2, 3), (1, 2, 1)])
def test_workers_share_the_threads(threads: int | None, workers: int, each: int | None) -> None:
    assert threads_each(Contender("c", "engine", "bundle", threads=threads, workers=workers)) == each


@pytest.mark.parametrize("changes", [{"engines": ()}, {"repeats": 0}, {"budget_s": 0}, {"scenarios": ("multi",)}])
def test_impossible_options_are_refused(changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        BenchOptions(**{"engines": (tmp_path,), "images": tmp_path, **changes})  # type: ignore[arg-type]


def test_the_foreign_share_of_the_busy_time() -> None:
    assert foreign_share((100, 0), (1100, 0), 5.0) == pytest.approx(0.5)  # 10 s busy, 5 of them ours
    assert foreign_share((0, 0), (400, 100), 5.0) == 0
    assert foreign_share(None, (1, 1), 5.0) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([612.0, 615.0, 609.0], "612 ± 3 ms"),
        ([612.0, 700.0], "~660 ms (spread 13%)"),
        ([612.3], "~610 ms (1 run)"),
    ],
)
def test_a_figure_is_as_precise_as_its_repeats(values: list[float], text: str) -> None:
    assert figure(repeated(values), "ms") == text


def test_ratios_and_numbers_in_words() -> None:
    quiet, noisy = Repeated(10, 9.95, 10.05, 3, 0.01), Repeated(10, 8, 12, 3, 0.4)
    assert times(ratio(quiet, quiet)) == "1x"
    assert times(ratio(noisy, quiet)) == "~1x (0.8 to 1.2)"
    assert times(ratio(repeated([20.04]), repeated([10]))) == "~2x"
    assert [rounded(value, 3) for value in (0, 0.0012345, 1234.5, 1e9, 1e13)] == [
        "0",
        "0.00123",
        "1230",
        "1000000000",
        "10000000000000",
    ]
    assert rounded(9.1e-5, 1) == "0.00009"


def test_a_table_keeps_its_bars() -> None:
    assert table(["a", "b"], [["x|y", "1"]]) == ["| a | b |", "| :-- | --: |", "| x\\|y | 1 |"]
