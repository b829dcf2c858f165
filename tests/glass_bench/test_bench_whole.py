"""Every part of a run, on engines that cost nothing: that it is there, not how long it took."""

import json
from pathlib import Path
from typing import Any

import pytest
from glass_bench.measure.record import Record, read_record
from glass_bench.report.figures import crop_fit, overhead_percent

from tests.support import Cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(zoo: dict[str, Path], labelled: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    done = cli(
        "bench", "--engine", zoo["good"], "--baseline", zoo["good_resize"], "--images", labelled, "--output", output,
        "--no-pytorch", "--budget", 120, "--repeats", 2, "--megapixels", "0.3,1,2", "--batches", "1,4", "--workers", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def record(whole: Path) -> Record:
    return read_record(whole / "bench.json")


def test_every_sweep_is_recorded(record: Record) -> None:
    good = next(entry for entry in record.contenders if entry.name == "good")
    resize = next(entry for entry in record.contenders if entry.name == "good_resize")
    assert [point.x for point in good.crop_sweep] == list(range(1, 17))
    assert [point.x for point in good.size_sweep] == [point.x for point in resize.size_sweep] == [0.3, 1, 2]
    assert resize.crop_sweep == ()
    fit = crop_fit(good)
    assert fit is not None
    assert fit.memory is not None


def test_variants_are_measured_offline(record: Record) -> None:
    variants = {entry.name: entry for entry in record.contenders if entry.variant_of is not None}
    assert {"good [batch 1]", "good [batch 4]", "good [2 workers]", "good_resize [2 workers]"} <= set(variants)
    assert all(run.scenario == "offline" and not run.void for entry in variants.values() for run in entry.runs)
    assert variants["good [2 workers]"].runs


def test_a_rate_was_searched_under_the_bound_or_left_out_by_name(record: Record) -> None:
    for name in ("good", "good_resize"):
        found = next(entry for entry in record.contenders if entry.name == name).server
        left_out = any(line.startswith(f"{name}: Server scenario not run") for line in record.skipped)
        assert (found is None) == left_out
        assert found is None or (found.probes and found.queries >= 100)


def test_all_tiles_look_at_every_window(record: Record) -> None:
    tiles = next(entry for entry in record.contenders if entry.sampling == "tiles")
    assert tiles.status == "measured"
    assert record.tile_images


def test_the_noop_engine_shows_the_harness(record: Record, whole: Path) -> None:
    noop = next(entry for entry in record.contenders if entry.kind == "no-op")
    assert overhead_percent(noop) is not None
    assert "With engines that do nothing" in (whole / "bench.md").read_text()


def test_the_header_says_where_and_with_what(whole: Path) -> None:
    values: dict[str, Any] = json.loads((whole / "bench.json").read_text())
    assert values["schema"] == 1
    assert {"cpu", "cores", "memory_gb", "gpus", "governor", "system", "python", "packages", "git_commit"} == set(
        values["machine"]
    )
    assert values["command"].startswith("glass-rt bench --engine good --baseline good_resize")
    assert {"average_before", "foreign_share"} == set(values["load"])


def test_every_plot_is_drawn(whole: Path) -> None:
    for name in ("latency", "stages", "crops", "size", "memory"):
        assert (whole / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"![{name}]({name}.png)" in (whole / "bench.md").read_text()
