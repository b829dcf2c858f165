"""`glass-rt serve` under load, from another process: its own cost, its throughput, and its behaviour under overload.

    python benchmarks/serving.py [--engine DIR] [--json FILE]

Three minutes. 1, 8 and 32 clients at a server whose detector does nothing, with bodies of 100 kB; the same at a real
engine, beside the same images through the pipeline without a server; then twice the engine's capacity. Every response
is checked against what `Detector.detect` (which is `glass-rt infer`) says of the image alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from time import monotonic, perf_counter, process_time, sleep
from typing import Any

import click
import cv2
from glass_bench.measure.machine import this_machine
from glass_bench.measure.memory import peak_mb, resident_mb
from glass_bench.sample import landscape
from glass_bench.serving.figures import ResponseCheck, ResponseChecker, figures_of, no_op_check
from glass_bench.serving.load import Exchange, LoadPlan, read_exchanges

from glass_rt import Detector
from glass_rt.options import DetectOptions

CLIENTS = (1, 8, 32)
NO_OP_BYTES = 100_000
PICTURES = ((1280, 960), (1600, 1200), (1024, 768), (1500, 1000), (1200, 1600), (960, 1280), (1920, 1080), (1100, 1100))
OVERLOAD = 2.0  # times the capacity


class ServerProcess:
    """A server process that this script started."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[ServerProcess]:
    """A server from its first log line to its exit, which must be 0."""
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", *arguments, "--port", "0"], stderr=out)
    try:
        yield ServerProcess(process, _port(process, log))
        process.send_signal(signal.SIGTERM)
        if (code := process.wait(60)) != 0:
            raise click.ClickException(f"the server ended with exit code {code}")
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    until = monotonic() + 60
    while monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and (url := json.loads(line).get("url")):
                return int(url.rsplit(":", 1)[1])
        sleep(0.05)
    raise click.ClickException(f"the server did not start: {log.read_text()[-2000:]}")


def load(folder: Path, server: ServerProcess, images: Sequence[Path], seconds: float, **how: float) -> list[Exchange]:
    """Runs a load in a process of its own."""
    plan = LoadPlan("127.0.0.1", server.port, tuple(map(str, images)), seconds, **how)  # type: ignore[arg-type]
    (folder / "plan.json").write_text(json.dumps(asdict(plan)))
    command = [sys.executable, "-m", "glass_bench.serving.load", str(folder / "plan.json"), str(folder / "result.json")]
    subprocess.run(command, check=True)
    return read_exchanges(folder / "result.json")


def measured(
    folder: Path, server: ServerProcess, images: Sequence[Path], seconds: float, check: ResponseCheck, **how: float
) -> dict[str, Any]:
    """One load, and what it cost the server."""
    cpu = server.cpu_s()
    exchanges = load(folder, server, images, seconds, **how)
    figures = asdict(figures_of(exchanges, seconds, check))
    cpu_ms = 1e3 * (server.cpu_s() - cpu) / len(exchanges)
    record = {**how, **figures, "server_cpu_ms": round(cpu_ms, 3), "server_mb": resident_mb(server.process.pid)}
    name = f"{how['clients']:g} clients" if "clients" in how else f"{how['rate']:.1f} requests/s"
    print(
        f"  {name:>16}: {figures['per_second']:7.1f} /s, p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f}, "
        f"server {cpu_ms:.2f} ms CPU each and {record['server_mb']:.0f} MB, "
        f"refused {figures['refused']}, wrong {figures['wrong']}, lost {figures['lost']}"
    )
    return record


def no_op(folder: Path, engine: Path, seconds: float) -> dict[str, Any]:
    """The server's own cost."""
    bodies = []
    for number in range(8):
        bodies.append(folder / f"body{number}.bin")
        bodies[-1].write_bytes(os.urandom(NO_OP_BYTES))
    print(f"a detector that does nothing, bodies of {NO_OP_BYTES} bytes")
    with running(folder, "glass_bench.serving.no_op", str(engine)) as server:
        load(folder, server, bodies, 1.0, clients=8)  # warm-up
        loads = [measured(folder, server, bodies, seconds, no_op_check(bodies), clients=clients) for clients in CLIENTS]
        return {"loads": loads, "peak_mb": peak_mb(server.process.pid)}


def real_engine(folder: Path, engine: Path, pictures: Sequence[Path], seconds: float) -> dict[str, Any]:
    """A real engine behind the server, beside the same through the pipeline alone."""
    with Detector.open(engine) as detector:
        check = ResponseChecker([detector.detect(path.read_bytes()).to_json() for path in pictures])
        alone, alone_cpu_ms = pipeline_alone(detector, pictures, seconds)
    print(f"{engine.name}: the pipeline alone judges {alone:.1f} images/s, {alone_cpu_ms:.2f} ms CPU each")
    with running(folder, "glass_rt", "serve", "--engine", str(engine)) as server:
        load(folder, server, pictures, 2.0, clients=8)
        loads = [measured(folder, server, pictures, seconds, check, clients=clients) for clients in CLIENTS]
        rate = OVERLOAD * loads[-1]["per_second"]
        overload = measured(folder, server, pictures, seconds, check, rate=rate)
        again = measured(folder, server, pictures, seconds, check, clients=CLIENTS[-1])
        most_mb = peak_mb(server.process.pid)
    return {
        "pipeline_per_second": alone,
        "pipeline_cpu_ms": alone_cpu_ms,
        "share_of_pipeline": loads[-1]["per_second"] / alone,
        "loads": loads,
        "overload": overload,
        "after_overload": again,
        "overload_p99_ratios": [overload["p99_ms"] / loaded["p99_ms"] for loaded in (loads[-1], again)],
        "peak_mb": most_mb,
    }


def pipeline_alone(detector: Detector, pictures: Sequence[Path], seconds: float) -> tuple[float, float]:
    """The same bytes through `Pipeline.run`, in steady state: images a second, and milliseconds of CPU for each."""
    sources = [path.read_bytes() for path in pictures]
    with detector.pipeline() as pipeline:
        results = pipeline.run(cycle(sources), DetectOptions())
        sum(1 for _ in islice(results, 4 * len(sources)))  # warm-up
        start, cpu, count = perf_counter(), process_time(), 0
        while perf_counter() - start < seconds:
            next(results)
            count += 1
        took, cpu_s = perf_counter() - start, process_time() - cpu
        results.close()  # type: ignore[attr-defined]  # a generator
    return count / took, 1e3 * cpu_s / count


def write_pictures(folder: Path) -> list[Path]:
    """Generated JPEGs of 0.8 to 2 megapixels."""
    paths = []
    for seed, (width, height) in enumerate(PICTURES):
        paths.append(folder / f"picture{seed}.jpg")
        cv2.imwrite(str(paths[-1]), landscape(width, height, seed)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return paths


def build_engine(folder: Path) -> Path:
    """A small engine with untrained weights."""
    target = folder / "mobilenet_v3_small"
    options = ("--backbone", target.name, "--backend", "onnxruntime", "--output", str(target), "--quiet")
    subprocess.run([sys.executable, "-m", "glass_rt", "build", *options], check=True)
    return target


@click.command()
@click.option(
    "--engine", type=click.Path(path_type=Path), help="A bundle.  [default: builds an untrained mobilenet_v3_small]"
)
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True, help="Of each load.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(engine: Path | None, seconds: float, json_path: Path | None) -> None:
    """Measure."""
    start = perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = engine or build_engine(folder)
        pictures = write_pictures(folder)
        record: dict[str, Any] = {
            "machine": this_machine().to_json(),
            "load_average_before": os.getloadavg()[0],
            "engine": engine.name,
            "picture_bytes": [path.stat().st_size for path in pictures],
            "seconds_per_load": seconds,
            "no_op": no_op(folder, engine, seconds / 2),
            "real": real_engine(folder, engine, pictures, seconds),
        }
    record["took_s"] = round(perf_counter() - start, 1)
    real = record["real"]
    before, after = real["overload_p99_ratios"]
    print(
        f"{real['share_of_pipeline']:.0%} of the pipeline's throughput; p99 at {OVERLOAD:g} times the capacity "
        f"{before:.2f} and {after:.2f} times that at {CLIENTS[-1]} clients before and after; {record['took_s']:.0f} s"
    )
    if json_path is not None:
        json_path.write_text(json.dumps(record, indent=1) + "\n")
    parts = [*record["no_op"]["loads"], *real["loads"], real["overload"], real["after_overload"]]
    if any(part["wrong"] or part["lost"] for part in parts):
        raise click.ClickException("some responses were wrong or lost")


if __name__ == "__main__":
    main()
