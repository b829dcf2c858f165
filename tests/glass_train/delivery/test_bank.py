"""The bank: what is computed once and kept, what is drawn anew, and what it does with files that are not whole."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from glass_bench.sample import landscape
from glass_train.delivery.bank import Bank, BankImage, BankSettings
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.geometry import Crop
from glass_train.delivery.policy import UNCHANGED, Policy
from glass_train.delivery.step import cut, whole

from glass_rt.errors import GlassError, UsageError
from glass_rt.image.decode import Pixels
from glass_rt.image.sampling import Box
from tests.full_disk import files_limited_to

LOADED: Counter[int] = Counter()
SETTINGS = BankSettings(Policy(thumbnail=0.0), seed=5, deliveries=3, picture_bytes=0)
CODED = Policy(horizontal_flip=0.0, blur=0.0, thumbnail=0.0, rescale=0.0, noise=0.0, jpeg=1.0)


def load(number: int) -> Pixels:
    LOADED[number] += 1
    return picture(number)


@cache
def picture(number: int) -> Pixels:
    return landscape(300, 360, number)


def images(count: int = 2) -> list[BankImage]:
    return [BankImage(f"image {number}", partial(load, number)) for number in range(count)]


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    LOADED.clear()


def test_every_delivery_comes_in_turn_and_then_again(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "bank", images(), SETTINGS)
    numbers = [bank.views(0, epoch, 2).delivery for epoch in range(6)]
    assert sorted(numbers[:3]) == [0, 1, 2]
    assert numbers[3:] == numbers[:3]


def test_the_global_view_is_that_of_the_whole_delivered_picture(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "bank", images(), SETTINGS)
    views = bank.views(1, 4, 2)
    delivered = DeliveredImage(picture(1), bank.steps(1, views.delivery))
    assert np.abs(views.global_view - delivered.global_view()).max() <= 0.5


def test_a_view_that_was_kept_is_the_same_and_crops_are_new_windows_of_the_same_picture(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "bank", images(), SETTINGS)
    first, second = bank.views(0, 0, 4), bank.views(0, 3, 4)
    np.testing.assert_array_equal(first.global_view, second.global_view)
    assert first.boxes != second.boxes
    delivered = DeliveredImage(picture(0), bank.steps(0, first.delivery))
    for views in (first, second):
        for crop, box in zip(views.crops, views.boxes, strict=True):
            expected = cut(delivered.pixels(), whole(delivered.size), box)
            np.testing.assert_array_equal(crop[: box.height, : box.width], expected)


def test_an_epoch_is_the_same_in_any_order_and_in_a_new_bank(tmp_path: Path) -> None:
    one, other = (Bank(tmp_path / name, images(), SETTINGS) for name in ("one", "other"))
    forwards = [one.views(index, epoch, 3) for epoch in range(2) for index in range(2)]
    backwards = [other.views(index, epoch, 3) for epoch in (1, 0) for index in (1, 0)]
    for there, back in zip(forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(there.global_view, back.global_view)
        np.testing.assert_array_equal(there.crops, back.crops)


def test_twins_that_share_a_key_are_delivered_and_cut_alike(tmp_path: Path) -> None:
    twins = [BankImage("pair", partial(load, number)) for number in (0, 1)]
    bank = Bank(tmp_path / "bank", twins, SETTINGS)
    for epoch in range(2):
        real, fake = bank.views(0, epoch, 3), bank.views(1, epoch, 3)
        assert (real.delivery, real.boxes) == (fake.delivery, fake.boxes)
        assert bank.steps(0, real.delivery) == bank.steps(1, fake.delivery)
        assert not np.array_equal(real.global_view, fake.global_view)


@pytest.mark.parametrize(
    ("settings", "crops", "loads"),
    [
        (SETTINGS, 2, 6),  # the crops of a large picture need it in every epoch
        (SETTINGS, 0, 3),
        (replace(SETTINGS, architecture="resize"), 2, 3),
        (replace(SETTINGS, picture_bytes=10_000_000), 2, 3),  # small pictures are kept whole
        (BankSettings(Policy(thumbnail=1.0, thumbnail_side=(180, 200)), 5, 3), 2, 3),
    ],
)
def test_an_image_is_decoded_only_where_its_pixels_are_needed(
    tmp_path: Path, settings: BankSettings, crops: int, loads: int
) -> None:
    bank = Bank(tmp_path / "bank", images(1), settings)
    views = [bank.views(0, epoch, crops) for epoch in range(6)]
    assert LOADED[0] == loads
    assert len(views[0].crops) == (0 if settings.architecture == "resize" else crops)


def test_a_picture_that_was_kept_gives_the_same_crops(tmp_path: Path) -> None:
    kept = Bank(tmp_path / "kept", images(1), replace(SETTINGS, picture_bytes=10_000_000))
    computed = Bank(tmp_path / "computed", images(1), SETTINGS)
    for epoch in range(6):
        np.testing.assert_array_equal(kept.views(0, epoch, 3).crops, computed.views(0, epoch, 3).crops)


def test_the_resize_only_model_gets_pillows_view(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "bank", images(1), replace(SETTINGS, architecture="resize"))
    views = bank.views(0, 0, 2)
    expected = DeliveredImage(picture(0), bank.steps(0, views.delivery)).baseline_view()
    np.testing.assert_array_equal(views.global_view, expected)


def test_steps_before_a_delivery_come_before_it(tmp_path: Path) -> None:
    cropped = replace(images(1)[0], before=(Crop(Box(16, 32, 240, 230)),))
    bank = Bank(tmp_path / "bank", [cropped], replace(SETTINGS, policy=UNCHANGED))
    (crop,) = bank.views(0, 0, 1).crops
    assert bank.steps(0, 0) == cropped.before
    expected = np.lib.stride_tricks.sliding_window_view(picture(0)[16:256, 32:262], crop.shape)
    assert any((window == crop).all() for window in expected.reshape(-1, *crop.shape))


@pytest.mark.parametrize("harm", ["cut off", "a byte"])
def test_a_view_that_is_not_whole_is_computed_again(tmp_path: Path, harm: str) -> None:
    bank = Bank(tmp_path / "bank", images(1), replace(SETTINGS, deliveries=1))
    before = bank.views(0, 0, 0)
    bank.close()
    file = tmp_path / "bank" / "global_views.bin"
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data[:9000] if harm == "cut off" else data)
    np.testing.assert_array_equal(bank.views(0, 1, 0).global_view, before.global_view)
    assert LOADED[0] == 2
    bank.views(0, 2, 0)
    assert LOADED[0] == 2


def test_a_folder_made_for_other_settings_or_images_is_refused(tmp_path: Path) -> None:
    Bank(tmp_path / "bank", images(), SETTINGS)
    Bank(tmp_path / "bank", images(), SETTINGS)
    others = [
        (images(), replace(SETTINGS, seed=6)),
        (images(), replace(SETTINGS, policy=CODED)),
        (images(3), SETTINGS),
        ([replace(image, before=(Crop(Box(0, 0, 9, 9)),)) for image in images()], SETTINGS),
    ]
    for other, settings in others:
        with pytest.raises(UsageError, match="made for other images or settings; delete it, or name another"):
            Bank(tmp_path / "bank", other, settings)


def test_a_bank_goes_to_another_process(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "bank", images(), SETTINGS)
    bank.views(0, 0, 1)  # its files are open
    sent = pickle.loads(pickle.dumps(bank))
    np.testing.assert_array_equal(sent.views(0, 0, 3).crops, bank.views(0, 0, 3).crops)


@pytest.mark.parametrize("picture_bytes", [0, 10_000_000])
def test_a_disk_that_takes_no_more_is_named_with_the_remedy(tmp_path: Path, picture_bytes: int) -> None:
    bank = Bank(tmp_path / "bank", images(1), replace(SETTINGS, picture_bytes=picture_bytes))
    with files_limited_to(50_000), pytest.raises(GlassError, match="free some space, or keep fewer deliveries"):
        bank.views(0, 0, 1)
    assert bank.views(0, 0, 1).crops.shape == (1, 224, 224, 3)


def test_no_delivery_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="deliveries: got 0"):
        BankSettings(deliveries=0)
