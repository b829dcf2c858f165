"""Parts: cut once, recorded, done when their file exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from glass_rt import DetectOptions, GlassError
from glass_rt.bulk.plan import (
    FOLDER,
    BulkPlan,
    BulkSettings,
    check_same,
    done_parts,
    has_plan,
    make_plan,
    part_name,
    read_plan,
    units,
    write_plan,
)
from glass_rt.bulk.sources import RowGroup
from glass_rt.bulk.stores import Location, Stores
from glass_rt.errors import UsageError

SETTINGS = BulkSettings.of("ab" * 32, DetectOptions(seed=1), ["photos"], None)


def plan_of(images: int, per_part: int | None = None) -> BulkPlan:
    return make_plan(SETTINGS, (f"/{number}.jpg" for number in range(images)), per_part)


@pytest.mark.parametrize(
    ("images", "per_part", "parts", "largest"),
    [(1, None, 1, 1), (17, None, 2, 16), (100_000, None, 2000, 50), (50, 20, 3, 20)],
)
def test_parts_are_of_a_size_that_suits_the_job(images: int, per_part: int | None, parts: int, largest: int) -> None:
    plan = plan_of(images, per_part)
    assert len(plan.parts) == parts
    assert plan.images == images
    assert max(plan.parts["images"].to_pylist()) == largest
    paths = [path for part in plan.parts["paths"].to_pylist() for path in part]
    assert paths == [f"/{number}.jpg" for number in range(images)]


def test_a_path_that_is_found_twice_is_judged_once() -> None:
    plan = make_plan(SETTINGS, ["/b.jpg", "/a.jpg", "/b.jpg"])
    assert plan.parts["paths"].to_pylist() == [["/b.jpg", "/a.jpg"]]


def test_row_groups_are_cut_and_handed_out_whole() -> None:
    plan = make_plan(SETTINGS, ["/a.jpg", RowGroup("/x.parquet", 0, 0, 50), RowGroup("/x.parquet", 1, 50, 10)], 20)
    assert plan.parts["images"].to_pylist() == [1, 20, 20, 10, 10]
    assert plan.parts["start"].to_pylist() == [None, 0, 20, 40, 0]
    assert [unit["part"].to_pylist() for unit in units(plan.parts)] == [[0], [1, 2, 3], [4]]


@pytest.mark.parametrize(("parts", "most", "handed_out"), [(10, 2000, 10), (10, 4, 4), (1, 1, 1), (0, 5, 0)])
def test_units_hold_every_part_once(parts: int, most: int, handed_out: int) -> None:
    table = plan_of(max(parts, 1), 1).parts.slice(0, parts)
    found = list(units(table, most))
    assert len(found) == handed_out
    assert [part for unit in found for part in unit["part"].to_pylist()] == list(range(parts))


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    stores, target = Stores(), Location("", str(tmp_path / "out"))
    assert not has_plan(target, stores)
    assert done_parts(target, stores) == set()
    plan = plan_of(40)
    write_plan(plan, target, stores)
    assert has_plan(target, stores)
    assert read_plan(target, stores) == plan
    for part in (0, 2):
        stores.write(target / part_name(part), b"")
    (tmp_path / "out" / ".part-000001.parquet.1234.partial").touch()
    assert done_parts(target, stores) == {0, 2}


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    stores, target = Stores(), Location("", str(tmp_path))
    write_plan(plan_of(2), target, stores)
    (tmp_path / FOLDER / "plan.parquet").write_bytes(b"PAR1")
    with pytest.raises(GlassError, match=r"plan\.parquet: the plan cannot be read"):
        read_plan(target, stores)
    (tmp_path / FOLDER / "plan.parquet").unlink()
    with pytest.raises(GlassError, match=r"plan\.parquet: the plan cannot be read: no such file"):
        read_plan(target, stores)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (BulkSettings.of("cd" * 32, DetectOptions(seed=1), ["photos"], None), "bundle_sha256"),
        (BulkSettings.of("ab" * 32, DetectOptions(seed=2), ["photos"], None), "options"),
        (BulkSettings.of("ab" * 32, DetectOptions(seed=1), ["photos", "more"], None), "sources"),
        (BulkSettings.of("ab" * 32, DetectOptions(seed=1), ["photos"], "path"), "column"),
    ],
)
def test_a_job_is_gone_on_with_as_it_was_begun(other: BulkSettings, named: str) -> None:
    check_same(plan_of(1), BulkSettings.of("ab" * 32, DetectOptions(seed=1), ["photos"], None))
    with pytest.raises(UsageError, match=f"begun with {named}"):
        check_same(plan_of(1), other)


def test_a_job_without_images_is_refused() -> None:
    with pytest.raises(GlassError, match="nothing to judge"):
        make_plan(SETTINGS, [])
