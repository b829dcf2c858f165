"""Commands ask no host beyond this machine and write nothing but what they were told to, nor do their libraries."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from glass_rt.machine import telemetry
from glass_rt.machine.environment import installed
from tests.behaviour.test_bundle_kinds import Kind, write_kind
from tests.bench_zoo import write_labelled_pictures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PORTABLE = ROOT / "benchmarks" / "demo_weights" / "glass"
KINDS = {"onnxruntime": ".onnx", "openvino": ".xml"}
INFER = ["infer", "--engine", "{engine}", "{pictures}"]
SERVE = ["serve", "--engine", "{engine}", "--port", "0"]
BUILD = ["build", "--from", str(PORTABLE), "--backend", "{backend}", "--output", "bundle"]
BENCH = ["bench", "--quick", "--budget", "1", "--engine", "{engine}", "--images", "{pictures}", "--output", "bench"]
CALIBRATE = [
    "calibrate",
    "--engine",
    "{engine}",
    "--fpr",
    "0.97",
    "--fnr",
    "0.97",
    "--confidence",
    "0.9",
    "--tiers",
    "off",
    "--dry-run",
    "--report",
    "report",
    "{pictures}",
]
BULK = ["bulk", "--engine", "{engine}", "--output", "rows", "--workers", "2", "{pictures}"]  # with Ray
# Each with the names of what it leaves in the user's cache.
CASES = [
    *(pytest.param(command, backend, (), id=f"{command[0]}-{backend}") for command in (INFER, SERVE, BUILD) for backend in KINDS),
    pytest.param(BENCH, "onnxruntime", ("matplotlib",), id="bench"),
    pytest.param(CALIBRATE, "onnxruntime", ("matplotlib",), id="calibrate"),
    pytest.param(BULK, "onnxruntime", (), id="bulk", marks=pytest.mark.ray),
]  # fmt: skip

# What Python's own functions do, told on standard error; native libraries do not go through them.
SPY = """
import os, runpy, sys
def told(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments
        host = address[0] if isinstance(address, tuple) else "a local socket"
        if host not in (None, "127.0.0.1", "::1", "localhost", "a local socket"):
            os.write(2, f"SPY {event} {host}\\n".encode())
sys.addaudithook(told)
if __name__ == "__main__":
    sys.argv = ["glass-rt", *sys.argv[1:]]
    runpy.run_module("glass_rt", run_name="__main__", alter_sys=True)
"""


class Place:
    """An empty home, a folder for temporary files and one to work in, and a command that is run there."""

    def __init__(self, folder: Path) -> None:
        self.home, self.temporary, self.work = (folder / name for name in ("home", "t", "work"))
        for path in (self.home, self.temporary, self.work):
            path.mkdir(parents=True)

    def run(self, *command: str) -> str:
        """Runs a command to its end, `serve` until it has listened for a second; returns its standard error."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "GLASS_RT_"))
        }
        environment |= {"HOME": str(self.home), "TMPDIR": str(self.temporary), "PYTHONDONTWRITEBYTECODE": "1"}
        log = self.work.parent / "stderr"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, cwd=self.work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
            if "serve" in command:
                wait_until(lambda: b'"listening"' in log.read_bytes() or process.poll() is not None)
                time.sleep(1)
                os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=300)
        said = log.read_text()
        assert process.returncode == 0, said
        return said

    def in_home(self) -> set[str]:
        """The files below the home."""
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file()}


def wait_until(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("given")
    engines = {
        backend: write_kind(Kind(backend, "fp32", suffix, "glass", True, "passed"), folder / backend)
        for backend, suffix in KINDS.items()
        if installed(backend)
    }
    return {**engines, "pictures": write_labelled_pictures(folder / "pictures", 1)}


def arguments(command: list[str], backend: str, given: Mapping[str, Path]) -> list[str]:
    if backend not in given:
        pytest.skip(f"{backend} is not installed")
    values = {"engine": given[backend], "pictures": given["pictures"], "backend": backend}
    return [argument.format(**values) if "{" in argument else argument for argument in command]


def check_home(place: Place, cached: tuple[str, ...]) -> None:
    foreign = {
        name for name in place.in_home() if not name.startswith(tuple(f".cache/glass-rt/{each}/" for each in cached))
    }
    assert foreign == set()


@pytest.mark.parametrize(("command", "backend", "cached"), CASES)
def test_nothing_is_looked_up_and_the_home_stays_empty(
    command: list[str], backend: str, cached: tuple[str, ...], given: Mapping[str, Path], short: Path
) -> None:
    place = Place(short)
    said = place.run(sys.executable, "-c", SPY, *arguments(command, backend, given))
    assert [line for line in said.splitlines() if line.startswith("SPY")] == []
    check_home(place, cached)


def test_the_spy_sees_what_it_looks_for(tmp_path: Path) -> None:
    looking = (
        SPY.partition("if __name__")[0]
        + "import socket\ntry: socket.getaddrinfo('host.invalid', 1)\nexcept OSError: pass"
    )
    assert "SPY socket.getaddrinfo host.invalid" in Place(tmp_path / "place").run(sys.executable, "-c", looking)


LOCAL = re.compile(r'inet_addr\("(127\.|0\.0\.0\.0)|"::1"|"::ffff:127\.|"::"')
REMOTE = re.compile(r"(connect|sendto|sendmsg|sendmmsg)\(.*sin6?_addr")
WRITTEN = re.compile(
    r'(?:openat\(AT_FDCWD, |open\(|creat\()"([^"]+)", [^)]*(?:O_WRONLY|O_RDWR|O_CREAT)[^=]*= \d|mkdir\("([^"]+)", \d+\) += 0'
)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(("command", "backend", "cached"), CASES)
def test_the_system_is_asked_for_nothing_else(
    command: list[str], backend: str, cached: tuple[str, ...], given: Mapping[str, Path], short: Path
) -> None:
    place = Place(short)
    trace = short / "trace"
    calls = "trace=connect,sendto,sendmsg,sendmmsg,openat,open,creat,mkdir"
    place.run(
        "strace", "-f", "-qq", "-s", "300", "-e", calls, "-e", "signal=none", "-o", str(trace),
        sys.executable, "-m", "glass_rt", *arguments(command, backend, given),
    )  # fmt: skip
    lines = trace.read_text(errors="replace").splitlines()
    assert [line for line in lines if REMOTE.search(line) and not LOCAL.search(line)] == []
    assert written_outside(lines, place) == set()
    check_home(place, cached)


def written_outside(lines: list[str], place: Place) -> set[str]:
    """What was opened to be written, or made, but in the folders of `place` and among devices."""
    paths = [match[1] or match[2] for line in lines if (match := WRITTEN.search(line))]
    allowed = (str(place.home), str(place.temporary), str(place.work), "/dev/", "/proc/")
    return {path for path in paths if path.startswith("/") and not path.startswith(allowed)}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder of a short name: Ray has sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="s"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_libraries_are_let_report_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    monkeypatch.setenv(telemetry.ALLOWED_BY, "1")
    telemetry.keep_silent()
    assert "ORT_DISABLE_TELEMETRY" not in os.environ
    assert "openvino_telemetry" not in sys.modules
    monkeypatch.delenv(telemetry.ALLOWED_BY)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    telemetry.keep_silent()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")
