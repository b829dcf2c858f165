"""A bundle under limits: what follows them, what is refused by name, and that verdicts stay what they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glass_rt import Detector
from glass_rt.errors import OutOfMemory
from glass_rt.inference import room
from glass_rt.inference.pipeline import MAX_WORKERS
from glass_rt.machine.limits import cgroup
from glass_rt.machine.limits.memory import MB, MemoryLimit
from glass_rt.results.verdict import Failure
from tests.bench_zoo import write_bundle, write_picture
from tests.command_line import Cli
from tests.glass_rt.machine.limits.test_cgroup import V2, made, stat


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("memory") / "bundle")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "picture.png", (90, 120, 30))


def given(folder: Path, monkeypatch: pytest.MonkeyPatch, memory: int, cpus: int = 1) -> None:
    """As in a container with so much memory, of which 20 MB are in use, and so many CPUs."""
    files = {"cpu.max": f"{cpus}00000 100000", "memory.max": f"{memory}", "memory.stat": stat(20 * MB)}
    made(folder, "0::/", [V2.format(root="/")], files)
    monkeypatch.setattr(cgroup, "ROOT", folder)


@pytest.mark.parametrize(
    ("memory", "batch", "most_decoders"),
    [(1024 * MB, 4, 8), (512 * MB, 4, 4), (256 * MB, 4, 2), (160 * MB, 1, 1), (100 * MB, 1, 1)],
)
def test_batch_decoders_and_budget_follow_the_container(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, batch: int, most_decoders: int
) -> None:
    monkeypatch.setattr("glass_rt.inference.engines.usable_cores", lambda: 8)
    monkeypatch.setattr("glass_rt.inference.pipeline.usable_cores", lambda: 8)
    given(tmp_path, monkeypatch, memory)
    with Detector.open(folder) as detector, detector.pipeline() as pipeline:
        opened = detector._judge.opened
        assert opened.batch == min(batch if memory < 512 * MB else 8, opened.manifest.engine.max_batch)
        assert pipeline.workers == min(most_decoders, MAX_WORKERS)
        limit = room.image_room(None)
        assert limit is not None
        assert limit.room == (memory - 20 * MB) * 7 // 8


def test_one_cpu_is_one_decoder_and_one_thread(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path, monkeypatch, 1024 * MB)
    with Detector.open(folder) as detector, detector.pipeline() as pipeline:
        assert pipeline.workers == 1


def test_what_the_user_asks_for_holds_as_a_limit_does(cli: Cli, folder: Path, picture: Path) -> None:
    plain = cli("infer", picture, "--engine", folder, "--csv")
    limited = cli("infer", picture, "--engine", folder, "--csv", "--memory", "8g")
    assert (limited.returncode, limited.stdout) == (0, plain.stdout)
    done = cli("infer", picture, "--engine", folder, "--memory", "5")
    assert done.returncode == 2
    assert "expected a size from 64m on, such as 512m or 1g" in done.stderr


def test_engines_that_do_not_fit_are_refused_before_they_are_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, monkeypatch, 24 * MB)
    with pytest.raises(OutOfMemory, match=r"to open the engines of bundle: .* 4 of 24 MB .*smaller backbone"):
        Detector.open(folder)


def test_the_second_engine_is_measured_by_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = (MemoryLimit("--memory", 900 * MB, 800 * MB),)
    monkeypatch.setattr("glass_rt.machine.limits.memory.memory_limits", lambda asked: limit)
    with Detector.open(folder) as detector:
        room.check_next_engine_fits(detector.bundle, "local", "global", 20 * MB, 60 * MB, None)
        with pytest.raises(OutOfMemory, match="to open the local engine of bundle"):
            room.check_next_engine_fits(detector.bundle, "local", "global", 20_000 * MB, 60 * MB, None)
        with pytest.raises(OutOfMemory, match="to open the local engine of bundle: that takes about 130 MB"):
            room.check_next_engine_fits(detector.bundle, "local", "global", 20 * MB, 150 * MB, None)


def test_an_image_that_does_not_fit_costs_its_own_verdict(
    folder: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = write_picture(
        tmp_path / "large.bmp", (90, 120, 30), 4000, 3000
    )  # 71 MB while it is decoded, beside 34 of its own
    with Detector.open(folder) as detector:
        expected = detector.detect(picture).probability_fake
        given(tmp_path, monkeypatch, 96 * MB)
        with pytest.raises(OutOfMemory, match=r"decode this image: that takes up to (34|7\d) MB, and \d\d of 96 MB"):
            detector.detect(large)
        first, second, third = detector.detect_many([picture, large, picture])
    assert isinstance(second, Failure)
    assert second.error.kind == "out_of_memory"
    assert not second.lasting  # --resume tries it again
    assert not isinstance(first, Failure)
    assert not isinstance(third, Failure)
    assert first.probability_fake == third.probability_fake == pytest.approx(expected, abs=1e-6)


# Megabytes of a real control group, from too few to start on to enough for the picture: each process ends by itself.
GROUPS = (16, 48, 72, 96, 160)


@pytest.fixture
def group() -> Iterator[Path]:
    """A new control group inside this process's own, where this account may make one that limits memory."""
    if not (found := cgroup._controllers("memory", cgroup.ROOT)):
        pytest.skip("no control groups of memory are mounted")
    folder = found[0].groups[0] / f"glass-rt-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        if not any((folder / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            pytest.skip("control groups made here do not limit memory")
        yield folder
    finally:
        folder.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [(), ("--sampling", "tiles")], ids=["crops", "tiles"])
def test_no_process_is_killed_by_its_control_group(
    folder: Path, tmp_path: Path, group: Path, asked: tuple[str, ...]
) -> None:
    picture = write_picture(tmp_path / "large.jpg", (90, 120, 30), 3000, 2000)
    limit_in = next(group / name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
    joining = f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"'
    ends = []
    for megabytes in GROUPS:
        limit_in.write_text(str(megabytes * MB))
        command = [
            sys.executable,
            "-m",
            "glass_rt",
            "infer",
            *[str(picture)] * 3,
            "--engine",
            str(folder),
            "-q",
            *asked,
        ]
        done = subprocess.run(["sh", "-c", joining, *command], capture_output=True, text=True, timeout=300)
        assert done.returncode in (0, 1), (megabytes, done)
        assert "Traceback" not in done.stderr
        if done.returncode == 1:
            assert "not enough memory, or threads, to" in done.stdout + done.stderr, megabytes
        ends.append(done.returncode)
    assert ends[0] == 1
    assert ends[-1] == 0


# Megabytes of addresses, from too few for Python's packages on to enough; each process ends by itself, with a remedy
# or with a verdict, and never by a signal.
ADDRESSES = (120, 280, 330, 430)
LIMITED = """
import resource, runpy, sys
limit = int(sys.argv.pop(1)) << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv[0] = "glass-rt"
runpy.run_module("glass_rt", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
def test_few_addresses_end_in_words(folder: Path, picture: Path) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    ends = []
    for limit in ADDRESSES:
        command = [sys.executable, "-c", LIMITED, str(limit), "infer", str(picture), "--engine", str(folder), "-q"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode in (0, 1), (limit, done)
        assert "Traceback" not in done.stderr
        if done.returncode == 1:
            assert re.search(
                r"not enough memory, or threads, to .*allow this process more memory", done.stdout + done.stderr
            )
        ends.append(done.returncode)
    assert ends[:2] == [1, 1]
