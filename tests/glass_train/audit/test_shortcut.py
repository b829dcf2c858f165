"""The audit refuses planted sets and names the fact, passes sets without one, and alignment makes the former pass."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from glass_train.audit.align import Alignment, align, audit_aligned, need_of
from glass_train.audit.container import Container, read_container
from glass_train.audit.report import as_json, refusal
from glass_train.audit.shortcut import Audit, audit
from glass_train.audit.swap import QUALITY_96, swapped
from glass_train.delivery.delivered import DeliveredImage
from glass_train.delivery.jpeg import JpegWithTables
from PIL import Image

from glass_rt.labelled.labels import FOLDER, labelled_images
from tests.glass_train.audit.planted import EXIF, ICC, IMAGES, Planted, Recipe, planted

SEED = 1

# The fake class, the real one, the fact that gives the label away, and what the message says of the classes.
SHORTCUTS: dict[str, tuple[Recipe, Recipe, str, str, str]] = {
    "all fake PNG, all real JPEG": (Recipe("PNG"), Recipe(), "format", "100 % png", "100 % jpeg"),
    "all fake JPEG, all real PNG": (Recipe(), Recipe("PNG"), "format", "100 % jpeg", "100 % png"),
    "fake WebP, real PNG": (Recipe("WEBP"), Recipe("PNG"), "format", "100 % webp", "100 % png"),
    "other quality": (
        Recipe(qualities=(94, 95, 96)),
        Recipe(qualities=(70, 75, 80)),
        "quantisation tables",
        "median quality 95",
        "median quality 75",
    ),
    "other sizes": (
        Recipe(sizes=((96, 96),)),
        Recipe(sizes=((128, 96), (96, 128), (160, 120))),
        "width and height",
        "median 96 x 96",
        "median 128",
    ),
    "sizes of which none fits the other": (
        Recipe(sizes=((96, 96),)),
        Recipe(sizes=((128, 80), (80, 128))),
        "width and height",
        "median 96 x 96",
        "median",
    ),
    "EXIF only in reals": (Recipe(), Recipe(options={"exif": EXIF}), "EXIF", "100 % without", "100 % with"),
    "a profile only in fakes": (
        Recipe(options={"icc_profile": ICC}),
        Recipe(),
        "ICC profile",
        "100 % with",
        "100 % without",
    ),
    "progressive fakes": (
        Recipe(options={"progressive": True}),
        Recipe(),
        "progressive coding",
        "100 % progressive",
        "100 % sequential",
    ),
    "other subsampling": (
        Recipe(subsamplings=("4:4:4",)),
        Recipe(),
        "chroma subsampling",
        "100 % 4:4:4",
        "100 % 4:2:0",
    ),
    "PNG of other sizes": (
        Recipe("PNG", sizes=((96, 96),)),
        Recipe("PNG", sizes=((128, 128),)),
        "width and height",
        "median 96 x 96",
        "median 128 x 128",
    ),
    "all at once": (
        Recipe("PNG", sizes=((96, 96), (128, 128))),
        Recipe(sizes=((160, 112), (112, 160)), options={"exif": EXIF}),
        "format",
        "100 % png",
        "100 % jpeg",
    ),
}

HARMLESS: dict[str, tuple[Recipe, Recipe]] = {
    "one recipe": (Recipe(), Recipe()),
    "one recipe of PNG": (Recipe("PNG"), Recipe("PNG")),
    "many qualities and sizes": (
        Recipe(qualities=range(50, 96), sizes=((96, 96), (128, 96), (160, 120))),
        Recipe(qualities=range(50, 96), sizes=((96, 96), (128, 96), (160, 120))),
    ),
}


def audited(made: Planted) -> Audit:
    return audit(made.containers, made.fake, made.groups, SEED)


@pytest.fixture(scope="module", params=SHORTCUTS)
def shortcut(request: pytest.FixtureRequest) -> tuple[Planted, Audit, tuple[str, str, str]]:
    fake, real, *expected = SHORTCUTS[request.param]
    made = planted(fake, real)
    return made, audited(made), (expected[0], expected[1], expected[2])


def test_a_shortcut_is_refused_and_the_fact_is_named(shortcut: tuple[Planted, Audit, tuple[str, str, str]]) -> None:
    _, found, (fact, of_fakes, of_reals) = shortcut
    assert not found.passes
    first = found.telling[0]
    assert first.fact == fact
    assert first.low > 0.6
    assert first.fake.startswith(of_fakes)
    assert first.real.startswith(of_reals)


def test_aligned_it_passes(shortcut: tuple[Planted, Audit, tuple[str, str, str]]) -> None:
    made, found, _ = shortcut
    alignments = align(made.containers, made.fake, made.names, need_of(found), SEED)
    after = audit_aligned(made.containers, alignments, made.decoded, made.fake, made.groups, SEED)
    assert after.passes, after
    assert found.low - after.low > 0.1


@pytest.mark.parametrize("name", HARMLESS)
def test_a_set_without_one_passes_and_is_left_as_it_is(name: str) -> None:
    made = planted(*HARMLESS[name])
    found = audited(made)
    assert found.passes, found
    assert not found.telling
    assert align(made.containers, made.fake, made.names, need_of(found), SEED) == [Alignment()] * len(made.files)


def test_the_refusal_names_the_fact_the_figures_and_both_ways_out(
    shortcut: tuple[Planted, Audit, tuple[str, str, str]],
) -> None:
    _, found, (fact, *_) = shortcut
    said = refusal(found)
    assert f"What gives it away: {fact} (fake {found.telling[0].fake}, real {found.telling[0].real})" in said
    assert f"AUC {found.auc:.2f} (at least {found.low:.2f}; the limit is 0.60)" in said
    assert "--align" in said
    assert "--allow-shortcuts" in said
    assert as_json(found)["facts"][0]["fact"] == fact


def test_the_aligned_pairs_pass_as_their_readme_says(real_pairs: Path) -> None:
    images, _ = labelled_images(real_pairs, FOLDER)
    containers = [read_container(image.path) for image in images]
    found = audit(containers, [image.fake for image in images], [image.group or image.name for image in images], SEED)
    assert found.passes
    assert found.auc == pytest.approx(0.55, abs=0.03)
    assert found.findings[0].fact == "bytes per pixel"  # fakes have 0.90 of the bytes of their originals


def test_one_photograph_on_both_sides_of_a_fold_is_what_groups_prevent() -> None:
    """Sizes that name the photograph tell nothing of a new one, however well a tree learns them by heart."""
    made = [Container("png", 100 + number, 100, 9, 9) for number in range(40) for _ in range(3)]
    fake = [number % 2 == 0 for number in range(40) for _ in range(3)]
    groups = [str(number) for number in range(40) for _ in range(3)]
    assert audit(made, fake, groups, SEED).passes
    assert not audit(made, fake, [str(i) for i in range(120)], SEED).passes


def test_a_class_of_one_group_is_audited_by_image() -> None:
    made = planted(Recipe("PNG"), Recipe())
    groups = ["one generator" if is_fake else group for is_fake, group in zip(made.fake, made.groups, strict=True)]
    assert audit(made.containers, made.fake, groups, SEED).telling[0].fact == "format"


def test_an_image_is_aligned_alike_whatever_its_place_in_the_list() -> None:
    made = planted(Recipe("PNG"), Recipe())
    found = audited(made)
    there = align(made.containers, made.fake, made.names, need_of(found), SEED)
    again = align(made.containers, made.fake, made.names, need_of(found), SEED)
    assert there == again
    assert len({str(alignment) for alignment in there}) > 2
    assert align(made.containers, made.fake, made.names, need_of(found), SEED + 1) != there


def test_metadata_alone_changes_no_pixel() -> None:
    made = planted(Recipe(), Recipe(options={"exif": EXIF}))
    assert align(made.containers, made.fake, made.names, need_of(audited(made)), SEED) == [Alignment()] * len(
        made.files
    )


def test_a_cut_keeps_the_phase_of_the_blocks() -> None:
    made = planted(Recipe(sizes=((96, 96),)), Recipe(sizes=((160, 144),)))
    alignments = align(made.containers, made.fake, made.names, need_of(audited(made)), SEED)
    boxes = [alignment.crop.box for alignment in alignments if alignment.crop]
    assert len(boxes) == IMAGES
    assert {(box.height, box.width) for box in boxes} == {(96, 96)}
    assert {box.top % 16 for box in boxes} | {box.left % 16 for box in boxes} == {0}
    assert max(box.left for box in boxes) == 64


def test_swapped_files_carry_the_tables_of_the_other_class() -> None:
    made = planted(Recipe(qualities=(95,)), Recipe(qualities=(60,), subsamplings=("4:4:4",)))
    containers, steps = made.containers, swapped(made.containers, made.fake, made.names, SEED)
    for is_fake, (coding,) in zip(made.fake, steps, strict=True):
        assert isinstance(coding, JpegWithTables)
        of_the_other = containers[-1] if is_fake else containers[0]
        assert (coding.tables, coding.subsampling) == (of_the_other.tables, of_the_other.subsampling)


def test_what_would_be_lossless_when_swapped_stays_as_it_is() -> None:
    made = planted(Recipe("PNG"), Recipe())
    steps = swapped(made.containers, made.fake, made.names, SEED)
    assert [len(each) for each in steps] == [int(is_fake) for is_fake in made.fake]


def test_quality_96_is_a_coding_of_the_whole_picture() -> None:
    made = planted(Recipe("PNG"), Recipe())
    picture = DeliveredImage(made.decoded(0), QUALITY_96).pixels()
    file = BytesIO()
    Image.fromarray(made.decoded(0)).save(file, "JPEG", quality=96, subsampling="4:2:0")
    np.testing.assert_array_equal(picture, np.asarray(Image.open(file)))
