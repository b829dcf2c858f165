"""The audit of a run's data: refused before a folder is made, aligned on the fly, and remembered by the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from glass_train.audit.dataset import audited, audited_before, swapped_containers
from glass_train.data.examples import DeliveredExamples, PlainExamples
from glass_train.data.parts import Dataset, make_parts
from glass_train.data.scan import scan
from glass_train.delivery.bank import BankSettings
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.policy import UNCHANGED
from glass_train.finish.card import _audit_lines
from PIL import Image

from glass_rt.errors import TrainingError
from glass_rt.image.encoded import load
from glass_rt.labelled.labels import FOLDER, labelled_images
from tests.glass_train.audit.planted import EXIF, Recipe, planted
from tests.support import Cli

SEED = 3
PNG_AGAINST_JPEG = (Recipe("PNG", sizes=((128, 112),)), Recipe(sizes=((160, 128), (128, 160)), options={"exif": EXIF}))


def write_set(folder: Path, fake: Recipe, real: Recipe) -> Path:
    made = planted(fake, real)
    for data, is_fake, name in zip(made.files, made.fake, made.groups, strict=True):
        path = folder / ("fake" if is_fake else "real") / f"{name} {is_fake}{'.png' if data[1:2] == b'P' else '.jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("leaking"), *PNG_AGAINST_JPEG)


@pytest.fixture(scope="module")
def dataset(leaking: Path) -> Dataset:
    images, _ = labelled_images(leaking, FOLDER)
    return make_parts(*scan(images, 1), SEED)


@pytest.fixture(scope="module")
def aligned(dataset: Dataset) -> Dataset:
    return audited(dataset, SEED, 1, alignment=True, allow=False)


def test_the_command_refuses_before_it_makes_a_folder(leaking: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("train", leaking, "--backbone", "resnet18", "--weights", "none", "--output", tmp_path / "run")
    assert done.returncode == 1
    (said,) = (line for line in done.stderr.splitlines() if "the label hides in the files" in line)
    assert "What gives it away: format (fake 100 % png, real 100 % jpeg)" in said
    assert "--align cuts both classes" in said
    assert "--allow-shortcuts trains all the same" in said
    assert not (tmp_path / "run" / "run.json").exists()


def test_what_was_allowed_is_remembered_and_changes_no_picture(dataset: Dataset) -> None:
    allowed = audited(dataset, SEED, 1, alignment=False, allow=True)
    assert allowed.audit is not None
    assert (allowed.audit["allowed"], allowed.audit["containers"]["passes"]) == (True, False)
    assert allowed.parts == dataset.parts
    lines = list(_audit_lines({"audit": allowed.audit}))
    assert any("AUC 1.00" in line and "format (fake 100 % png, real 100 % jpeg)" in line for line in lines)
    assert any("--allow-shortcuts" in line for line in lines)


def test_aligned_pictures_pass_and_the_card_says_what_was_done(aligned: Dataset) -> None:
    assert aligned.audit is not None
    assert aligned.audit["aligned"]["passes"]
    assert aligned.audit["alignment"] == {"sizes": True, "coding": True}
    lines = list(_audit_lines({"audit": aligned.audit}))
    assert any("aligned while training (sizes and coding)" in line for line in lines)
    assert not any("--allow-shortcuts" in line for line in lines)
    json.dumps(aligned.audit)


def test_every_part_is_aligned(aligned: Dataset) -> None:
    for part in ("train", "val", "test"):
        fakes = [scanned for scanned in aligned.parts[part] if scanned.image.fake]
        reals = [scanned for scanned in aligned.parts[part] if not scanned.image.fake]
        assert all(len(scanned.before) == 1 for scanned in fakes)  # coded, and small enough
        assert all(len(scanned.before) == 1 for scanned in reals)  # cut, and coded already
        sizes = {DeliveredImage(load(one.image.path).pixels, one.before).size for one in fakes + reals}
        assert sizes == {(112, 128)}


def test_a_run_that_goes_on_aligns_as_before(dataset: Dataset, aligned: Dataset) -> None:
    record = json.loads(json.dumps(aligned.audit))
    assert audited_before(dataset, record, SEED, 2) == aligned


def test_training_and_validation_see_aligned_pictures(aligned: Dataset, tmp_path: Path) -> None:
    images = aligned.parts["train"][::9]  # of both classes
    plain = PlainExamples(images, 1, SEED)
    delivered = DeliveredExamples(images, 1, tmp_path / "bank", BankSettings(UNCHANGED, SEED, 1))
    for index, scanned in enumerate(images):
        expected = DeliveredImage(load(scanned.image.path).pixels, scanned.before)
        for example in (plain.example(index, 0), delivered.example(index, 0)):
            np.testing.assert_array_equal(example.crops[0][:112, :128], expected.pixels())
            assert np.abs(example.global_view - expected.global_view()).max() <= 0.5


def test_an_alignment_that_does_not_help_is_refused_as_such(tmp_path: Path) -> None:
    """Pictures of two kinds: what they weigh cannot be aligned."""
    folder = write_set(tmp_path / "set", Recipe(), Recipe())
    for number, path in enumerate(sorted((folder / "fake").iterdir())):
        Image.new("RGB", (112, 96), (90 + number, 120, 140)).save(path, "JPEG", quality=85)
    images, _ = labelled_images(folder, FOLDER)
    made = make_parts(*scan(images, 1), SEED)
    with pytest.raises(TrainingError, match=r"bytes per pixel.*after --align too; even the classes out"):
        audited(made, SEED, 1, alignment=True, allow=False)


def test_a_test_split_of_one_class_has_no_containers_to_swap(dataset: Dataset) -> None:
    images = dataset.parts["test"]
    assert swapped_containers([one for one in images if one.image.fake], SEED, 1) is None
    swapped = swapped_containers(images, SEED, 1)
    assert swapped is not None
    assert [bool(steps) for steps in swapped] == [one.image.fake for one in images]
