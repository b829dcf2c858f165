"""Parts that tear nothing apart, orders that follow from seed and epoch, and views that are the runtime's."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from glass_train.data.examples import DeliveredExamples, PlainExamples
from glass_train.data.loader import batches
from glass_train.data.order import FAKE, REAL, Draw, epoch_order
from glass_train.data.parts import PARTS, Dataset, make_parts
from glass_train.data.scan import Scanned, scan
from glass_train.data.table import read_table_of_run, write_table
from glass_train.data.tiers import TIERS, check_tiers
from glass_train.delivery.bank import BankSettings
from glass_train.delivery.policy import Policy

from glass_rt.errors import LabelsInvalid, TrainingError, UsageError
from glass_rt.image.encoded import load
from glass_rt.image.sampling import default_seed, stratified
from glass_rt.image.views import global_view
from glass_rt.labelled.labels import LabelledImage, labelled_images


def scanned(number: int, fake: bool, pixels: str | None = None, **said: str | None) -> Scanned:
    name = f"{'fake' if fake else 'real'}/{number}.png"
    return Scanned(LabelledImage(name, name, fake, **said), f"file {name}", pixels or name, 9, 9)  # type: ignore[arg-type]


def many(count: int = 60, **said: str | None) -> list[Scanned]:
    return [scanned(i, fake, **said) for i in range(count) for fake in (True, False)]


def places(dataset: Dataset) -> dict[str, str]:
    return {one.image.name: part for part in PARTS for one in dataset.parts[part]}


def test_splits_that_are_given_are_kept() -> None:
    images = [
        scanned(i, fake, split=split) for i, split in enumerate(("train", "val", "test")) for fake in (True, False)
    ]
    dataset = make_parts(images, (), 1)
    assert {part: len(found) for part, found in dataset.parts.items()} == {
        "train": 2, "val": 2, "calibration": 0, "test": 2,
    }  # fmt: skip


def test_parts_are_made_by_group_and_pair_and_pixels() -> None:
    images = [scanned(i, fake, group=f"g{i // 4}", pair=f"p{i // 2}") for i in range(80) for fake in (True, False)]
    images.append(scanned(900, True, pixels=images[0].pixels_sha256))
    dataset = make_parts(images, (), 5)
    place = places(dataset)
    for key in ("group", "pair"):
        for value in {getattr(one.image, key) for one in images}:
            found = [place[one.image.name] for one in images if getattr(one.image, key) == value]
            assert value is None or len(set(found)) == 1
    assert place["fake/900.png"] == place[images[0].image.name]
    for part in ("train", "val", "test"):
        assert {one.image.fake for one in dataset.parts[part]} == {True, False}


def test_sources_are_kept_whole_where_there_are_enough() -> None:
    images = [scanned(i, fake, source=f"s{i % 12}") for i in range(120) for fake in (True, False)]
    place = places(make_parts(images, (), 2))
    for fake in (True, False):
        for source in range(12):
            found = {place[o.image.name] for o in images if o.image.source == f"s{source}" and o.image.fake == fake}
            assert len(found) == 1


def test_parts_follow_from_the_seed_and_not_from_the_order() -> None:
    images = many()
    assert places(make_parts(images, (), 3)) == places(make_parts(images[::-1], (), 3))
    assert places(make_parts(images, (), 3)) != places(make_parts(images, (), 4))
    assert make_parts(images, (), 3).sha256 == make_parts(images[::-1], (), 3).sha256


def test_a_part_for_calibration_is_made_where_enough_images_allow_it() -> None:
    small, large = make_parts(many(100), (), 1), make_parts(many(1500), (), 1)
    assert not small.parts["calibration"]
    assert any("no part for calibration" in note for note in small.notes)
    counts = Counter(one.image.fake for one in large.parts["calibration"])
    assert min(counts.values()) >= 100


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([scanned(i, True) for i in range(4)], "both classes; only fake"),
        ([], "no image of the data can be read"),
        ([scanned(1, True, "p"), scanned(2, False, "p")], "the same pixels and both labels"),
        (
            [*many(3, split="train"), scanned(8, True, "p", split="train"), scanned(9, True, "p", split="test")],
            r"fake/9.png \(test\) and fake/8.png \(train\) have the same pixels",
        ),
        (
            [
                *many(3, split="train"),
                scanned(8, True, group="g", split="val"),
                scanned(9, True, group="g", split="test"),
            ],
            "belong to one group or pair",
        ),
        ([scanned(1, True), scanned(2, False)], "too few groups to divide"),
    ],
)
def test_data_that_cannot_be_divided_is_refused(images: list[Scanned], message: str) -> None:
    with pytest.raises(LabelsInvalid, match=message):
        make_parts(images, (), 1)


def test_a_source_that_is_kept_aside_is_in_the_test_alone() -> None:
    images = [scanned(i, fake, split=split, source=f"s{i % 3}" if fake else "camera")
              for split in ("train", "val", "test") for i in range(9 * len(split), 9 * len(split) + 9)
              for fake in (True, False)]  # fmt: skip
    dataset = make_parts([*{one.image.name: one for one in images}.values()], (), 1, ("s1",))
    sources = {part: {one.image.source for one in found} for part, found in dataset.parts.items()}
    assert "s1" not in sources["train"] | sources["val"]
    with pytest.raises(LabelsInvalid, match="no image has the source 's9'; there are: camera, s0"):
        make_parts(images, (), 1, ("s9",))


def test_images_that_cannot_be_read_are_named(tmp_path: Path, pictures_to_train_on: Path) -> None:
    folder = shutil.copytree(pictures_to_train_on, tmp_path / "data")
    (folder / "train" / "fake" / "broken.png").write_bytes((folder / "train/fake/train0.png").read_bytes()[:2000])
    images, _ = labelled_images(folder, "folder")
    readable, unreadable = scan(images, 2)
    assert len(readable) == len(images) - 1
    assert [one.name for one in unreadable] == ["train/fake/broken.png"]
    assert any("1 images cannot be read" in note for note in make_parts(readable, unreadable, 1).notes)


LABELS = np.array([FAKE] * 5 + [REAL] * 9)
NO_PAIRS: list[str | None] = [None] * len(LABELS)


def test_every_batch_is_half_fake_and_an_epoch_sees_every_image() -> None:
    order = epoch_order(LABELS, NO_PAIRS, 4, seed=1, epoch=0)
    assert all(Counter(LABELS[[draw.index for draw in batch]]) == {FAKE: 2, REAL: 2} for batch in order)
    assert {draw.index for batch in order for draw in batch} == set(range(14))
    assert len(order) == 5  # nine couples, two a batch


def test_an_order_follows_from_seed_and_epoch() -> None:
    first = epoch_order(LABELS, NO_PAIRS, 4, 1, 0)
    assert first == epoch_order(LABELS, NO_PAIRS, 4, 1, 0)
    assert first != epoch_order(LABELS, NO_PAIRS, 4, 1, 1)
    assert first != epoch_order(LABELS, NO_PAIRS, 4, 2, 0)


def test_an_image_never_has_the_same_turn_twice() -> None:
    seen: Counter[Draw] = Counter()
    for epoch in range(4):
        order = epoch_order(LABELS, NO_PAIRS, 2, 1, epoch, repeats=3)
        seen.update(draw for batch in order for draw in batch)
    assert max(seen.values()) == 1
    assert Counter(draw.index for draw in seen)[13] == 12


def test_twins_stand_in_one_batch_with_one_turn() -> None:
    pairs = ["a", "b", None, None, None, "a", "a", "b", "c", None, None, None, None, None]
    for batch in epoch_order(LABELS, pairs, 4, 1, 7, repeats=2):
        for fake, real in zip(batch[::2], batch[1::2], strict=True):
            assert (LABELS[fake.index], LABELS[real.index]) == (FAKE, REAL)
            if fake.index < 2 or real.index in (5, 6, 7):
                assert pairs[fake.index] == pairs[real.index]
                assert fake.turn == real.turn


def test_a_class_of_which_all_have_twins_lends_some_to_the_others() -> None:
    labels, pairs = np.array([FAKE, FAKE, REAL, REAL, REAL]), ["a", "b", "a", "b", None]
    drawn = {draw.index for batch in epoch_order(labels, pairs, 2, 1, 0) for draw in batch}
    assert drawn == {0, 1, 2, 3, 4}


@pytest.fixture
def training(pictures_to_train_on: Path) -> tuple[Scanned, ...]:
    images, _ = labelled_images(pictures_to_train_on, "folder")
    return make_parts(scan(images, 2)[0], (), 1).parts["train"]


def test_validation_sees_what_the_runtime_judges(training: tuple[Scanned, ...]) -> None:
    example = PlainExamples(training, 2, 606).example(0, None)
    image = load(training[0].image.path)
    np.testing.assert_array_equal(example.global_view, global_view(image.pixels, 224))
    boxes = stratified(image.info.height, image.info.width, 2, default_seed(image.info.sha256), 224).boxes
    for box, crop in zip(boxes, example.crops, strict=True):
        np.testing.assert_array_equal(crop, image.pixels[box.top : box.top + 224, box.left : box.left + 224])


def test_turns_give_other_windows_and_twins_the_same(training: tuple[Scanned, ...]) -> None:
    examples = PlainExamples(training, 2, 606)
    one, same, other = (examples.example(0, turn).crops for turn in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    twins = [
        Scanned(LabelledImage(one.image.path, one.image.name, True, pair="p"), "", "", 1, 1) for one in training[:2]
    ]
    assert PlainExamples(twins, 2, 606).key(0) == PlainExamples(twins, 2, 606).key(1)


def test_deliveries_are_the_same_in_any_thread(training: tuple[Scanned, ...], tmp_path: Path) -> None:
    order = [[Draw(i, turn) for i in range(6)] for turn in range(3)]
    found = []
    for workers in (1, 3):
        settings = BankSettings(Policy(), 606, 2, "glass")
        examples = DeliveredExamples(training, 2, tmp_path / str(workers), settings)
        found.append([(one.global_views, one.crops) for one in batches(examples, order, workers)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_a_run_knows_its_data_again(pictures_to_train_on: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures_to_train_on, tmp_path / "data")
    images, _ = labelled_images(folder, "folder")
    dataset = make_parts(scan(images, 2)[0], (), 1)
    write_table(tmp_path, dataset)
    assert read_table_of_run(tmp_path, folder).sha256 == dataset.sha256
    moved = shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)  # other times, same content
    assert read_table_of_run(tmp_path, moved).sha256 == dataset.sha256
    victim = Path(dataset.parts["train"][0].image.path)
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    with pytest.raises(TrainingError, match=f"{victim.name} has changed"):
        read_table_of_run(tmp_path, folder)
    victim.unlink()
    with pytest.raises(TrainingError, match=f"{victim.name} is gone"):
        read_table_of_run(tmp_path, folder)


def test_tiers_change_the_picture_and_keep_its_kind() -> None:
    pixels = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (61, 43, 3), dtype=np.uint8)
    for name, alter in TIERS.items():
        if alter is not None:
            changed = alter(pixels)
            assert changed.dtype == np.uint8, name
            assert changed.ndim == 3, name
            assert not np.array_equal(changed, pixels), name
            assert alter(pixels[:1, :1]).shape == (1, 1, 3), name
    with pytest.raises(UsageError, match="got 'smoke'; expected some of clean"):
        check_tiers(("clean", "smoke"))
