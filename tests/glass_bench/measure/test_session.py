"""A contender's session: what its measured process was asked, and what of its failure is recorded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from glass_bench.measure import benchmark
from glass_bench.measure.benchmark import _Benchmark
from glass_bench.measure.contenders import Contender
from glass_bench.measure.images import find_bench_images
from glass_bench.measure.options import BenchOptions
from glass_bench.measure.participants import Participant
from glass_bench.measure.process import ContenderProcess
from glass_bench.measure.record import SweepPoint
from glass_bench.measure.session import ContenderSession

from glass_rt.progress import silent
from tests.bench_zoo import write_picture


@pytest.fixture
def three_sizes(tmp_path: Path) -> Path:
    for name, side in (("small.png", 240), ("middle.png", 400), ("large.png", 700)):
        write_picture(tmp_path / "sizes" / name, (170, 90, 80), side, side)
    return tmp_path / "sizes"


def bench_of(engine: Path, images: Path) -> _Benchmark:
    options = BenchOptions((engine,), images, pytorch=False, noop=False, tiles=False)
    return _Benchmark(options, find_bench_images(images)[0], silent)


def test_the_parity_gate_runs_in_another_process_than_is_measured(
    zoo: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: dict[int, list[str]] = {}
    ask = ContenderProcess.ask

    def noted(process: ContenderProcess, command: str, **arguments: Any) -> dict[str, Any]:
        orders.setdefault(id(process), []).append(command)
        return ask(process, command, **arguments)

    monkeypatch.setattr(ContenderProcess, "ask", noted)
    session = ContenderSession(Participant(Contender("good", "engine", str(zoo["good"])), "engine"))
    session.open()
    try:
        assert list(orders.values()) == [["open", "check"], ["open"]]
        assert orders[id(session.process)] == ["open"]
        assert session.running
    finally:
        session.close()


def test_a_process_that_does_not_open_again_costs_a_memory_point_alone(
    zoo: dict[str, Path], three_sizes: Path, tmp_path: Path
) -> None:
    bench = bench_of(zoo["good"], three_sizes)
    gone = Participant(Contender("gone", "engine", str(tmp_path / "gone")), "engine")
    assert bench._fresh_peak(gone, bench.found[0], 1, float("inf")) is None


@pytest.mark.parametrize(("slow_ms", "judged"), [(0.0, ["large"]), (1e9, ["large", "middle", "small"])])
def test_a_slow_contender_is_warmed_up_with_the_largest_image(
    slow_ms: float, judged: list[str], zoo: dict[str, Path], three_sizes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    judge = ContenderSession.judge

    def noted(session: ContenderSession, paths: Sequence[str], crops: int | None = None) -> list[dict[str, Any]]:
        asked.append([Path(path).stem for path in paths])
        return judge(session, paths, crops)

    monkeypatch.setattr(ContenderSession, "judge", noted)
    monkeypatch.setattr(benchmark, "SLOW_MS", slow_ms)
    bench = bench_of(zoo["good"], three_sizes)
    with bench.opened():
        bench.warm_up()
    assert asked == [["large"], judged]


def test_repeats_that_did_not_fit_are_listed(zoo: dict[str, Path], three_sizes: Path) -> None:
    bench = bench_of(zoo["good"], three_sizes)
    assert list(bench._rounds("Offline", 0.0)) == [0]
    assert bench.skipped == ["Offline: 1 of 5 repeats fitted the time; --budget takes more"]
    assert len(list(bench._rounds("SingleStream", 1e9))) == 5
    assert len(bench.skipped) == 1


def test_memory_points_that_were_not_taken_are_listed(zoo: dict[str, Path], three_sizes: Path) -> None:
    bench = bench_of(zoo["good"], three_sizes)
    bench.options.shares["crops"] = -1.0  # no time at all
    bench.images, bench.sessions[0].crop_sweep = bench.found, [SweepPoint(1, (5.0,)), SweepPoint(4, (9.0,))]
    bench.crop_memory()
    assert [point.peak_mb for point in bench.sessions[0].crop_sweep] == [None, None]
    assert bench.skipped == ["good: memory not taken at 1, 4 crops, to keep the time"]


def test_a_complaint_names_the_bundle_and_the_checkpoint_without_their_folders() -> None:
    contender = Contender("glass", "pytorch", "/data/engines/vit", checkpoint="weights/mine.pt")
    session = ContenderSession(Participant(contender, "other"))
    session.fail(
        RuntimeError(f"/data/engines/vit: no such folder; {Path('weights/mine.pt').resolve()}: weights/mine.pt")
    )
    assert session.complaint == "vit: no such folder; mine.pt: mine.pt"
