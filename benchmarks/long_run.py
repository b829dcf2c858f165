"""Long runs of `glass-rt infer`: is memory flat, is nothing lost or judged twice, do bad files cost only themselves?

    python benchmarks/long_run.py --engine DIR --images DIR [--hostile DIR] [--count 10000] [--json FILE]

1. `count` links to the images of --images are judged in one run; resident memory after the first 500 is compared with
   the most over the last twentieth of them. The run is killed (SIGKILL) half way and resumed: every link must be in
   the output exactly once.
2. With --hostile, its files are mixed among the images: every image must be judged as it is alone, and every bad file
   have its row, whether it can be judged or not.
Exit codes must be `infer`'s: 0, or 1 where a file could not be judged. Linux only: memory is read from /proc. Ends with
exit code 1 where one of these does not hold, and names it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import click
from glass_bench.measure.machine import this_machine
from glass_bench.measure.memory import resident_mb

SETTLED = 500  # images after which memory should not grow any more
MOST_GROWTH = 1.10
SAMPLE_S = 0.25


@dataclass(frozen=True)
class InferRun:
    """One process: how it ended, seconds, and resident MB by the number of results written at that time."""

    code: int
    seconds: float
    memory_mb: tuple[tuple[int, float], ...]

    def memory_after(self, count: int) -> float:
        """The most resident MB once at least so many results had been written."""
        return max((mb for results, mb in self.memory_mb if results >= count), default=self.memory_mb[-1][1])

    def memory_at(self, count: int) -> float:
        """Resident MB when at least so many results had been written; the last known where there were fewer."""
        return next((mb for results, mb in self.memory_mb if results >= count), self.memory_mb[-1][1])

    @property
    def peak_mb(self) -> float:
        """The most that was seen."""
        return max(mb for _, mb in self.memory_mb)


def infer(engine: Path, folder: Path, output: Path, *, kill_at: int | None = None) -> InferRun:
    """Judges a folder into `output`, going on where it exists; killed once it holds `kill_at` results."""
    words = [sys.executable, "-m", "glass_rt", "infer", str(folder), "--engine", str(engine), "--output", str(output)]
    start, samples = perf_counter(), []
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([*words, "--resume"], stdout=said, stderr=said)
        while process.poll() is None:
            sleep(SAMPLE_S)
            done = lines(output)
            if done and (mb := resident_mb(process.pid)) is not None:
                samples.append((done, mb))
            if kill_at is not None and done >= kill_at:
                process.send_signal(signal.SIGKILL)
        seconds = perf_counter() - start
        if not samples:
            said.seek(0)
            raise click.ClickException(f"glass-rt infer ended with {process.returncode}: {said.read().decode()[-500:]}")
    return InferRun(process.returncode, seconds, tuple(samples))


def lines(path: Path) -> int:
    """Line ends in a file; 0 where there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def link(folder: Path, files: Sequence[Path], count: int) -> list[str]:
    """`count` links to the files in turn, a thousand to a folder; their paths."""
    paths = []
    for number, file in enumerate(islice(cycle(files), count)):
        target = folder / f"{number // 1000:03d}" / f"{number:06d}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file.resolve())
        paths.append(str(target))
    return paths


def results(output: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file."""
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def exactly_once(paths: Sequence[str], output: Path) -> bool:
    """Whether the output holds every path once, and no other."""
    return sorted(row["path"] for row in results(output)) == sorted(paths)


def memory_and_resume(engine: Path, files: Sequence[Path], count: int) -> dict[str, Any]:
    """The long run, once whole and once killed half way."""
    with tempfile.TemporaryDirectory(prefix="glass-long-run-") as name:
        folder = Path(name)
        paths = link(folder / "links", files, count)
        whole = infer(engine, folder / "links", folder / "whole.jsonl")
        early, late = whole.memory_at(SETTLED), whole.memory_after(count - count // 20)
        killed = infer(engine, folder / "links", folder / "cut.jsonl", kill_at=count // 2)
        before = lines(folder / "cut.jsonl")
        resumed = infer(engine, folder / "links", folder / "cut.jsonl")
        failed = sum("error" in row for row in results(folder / "whole.jsonl"))
        return {
            "images": count,
            "seconds": whole.seconds,
            "failed": failed,
            f"mb_after_{SETTLED}": early,
            "mb_at_the_end": late,
            "growth": late / early,
            "flat": late <= MOST_GROWTH * early,
            "whole_run_exactly_once": exactly_once(paths, folder / "whole.jsonl"),
            "results_before_resume": before,
            "exit_codes": [whole.code, killed.code, resumed.code],
            "exit_codes_as_expected": [whole.code, killed.code, resumed.code] == [0, -signal.SIGKILL, 0],
            "resumed_run_exactly_once": exactly_once(paths, folder / "cut.jsonl"),
            "memory_mb": [asdict(whole)["memory_mb"][i] for i in range(0, len(whole.memory_mb), 40)],
        }


def mixed(engine: Path, files: Sequence[Path], hostile: Path) -> dict[str, Any]:
    """Bad files among good ones, against each by themselves."""
    bad = sorted(path for path in hostile.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory(prefix="glass-long-run-") as name:
        folder = Path(name)
        good_paths = link(folder / "good", files, len(bad))
        bad_paths = link(folder / "bad", bad, len(bad))
        mixed_paths = []
        for number in range(len(bad)):  # a bad one after every good one
            part = folder / "mixed" / f"{number // 500:03d}"
            part.mkdir(parents=True, exist_ok=True)
            for kind, paths in (("a-good", good_paths), ("b-bad", bad_paths)):
                source = Path(paths[number])
                target = part / f"{number:06d}-{kind}{source.suffix}"
                target.symlink_to(source.resolve())
                mixed_paths.append(str(target))
        alone = infer(engine, folder / "good", folder / "good.jsonl")
        bad_alone = infer(engine, folder / "bad", folder / "bad.jsonl")
        both = infer(engine, folder / "mixed", folder / "mixed.jsonl")
        rows = results(folder / "mixed.jsonl")
        judged = [row for row in rows if "-a-good" in row["path"]]
        failed = sum("error" in row for row in rows if "-b-bad" in row["path"])
        same = {row["sha256"]: row["probability_fake"] for row in results(folder / "good.jsonl") if "error" not in row}
        return {
            "images": len(good_paths),
            "hostile_files": len(bad),
            "hostile_failed": failed,
            "every_file_exactly_once": exactly_once(mixed_paths, folder / "mixed.jsonl"),
            "every_image_judged": len(judged) == len(good_paths) and not any("error" in row for row in judged),
            "verdicts_as_alone": all(row.get("probability_fake") == same.get(row.get("sha256")) for row in judged),
            "exit_codes": [alone.code, bad_alone.code, both.code],
            "exit_codes_as_expected": [alone.code, bad_alone.code, both.code] == [0, int(failed > 0), int(failed > 0)],
            "seconds": {"images": alone.seconds, "hostile": bad_alone.seconds, "mixed": both.seconds},
            "peak_mb": {"images": alone.peak_mb, "hostile": bad_alone.peak_mb, "mixed": both.peak_mb},
        }


@click.command()
@click.option("--engine", type=click.Path(path_type=Path, exists=True), required=True, help="Bundle; a fast one does.")
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--hostile", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--largest", type=float, default=1.0, show_default=True, help="Megabytes of an image file, at most.")
@click.option("--count", type=click.IntRange(2), default=10_000, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(engine: Path, images: Path, hostile: Path | None, largest: float, count: int, json_path: Path | None) -> None:
    """Judge very many links to a few images, kill and resume, and mix in bad files."""
    suffixes = (".jpg", ".jpeg", ".png", ".webp")
    files = sorted(p for p in images.rglob("*") if p.suffix.lower() in suffixes and p.stat().st_size <= largest * 1e6)
    found: dict[str, Any] = {"machine": this_machine().to_json(), "engine": engine.name}
    found["long"] = memory_and_resume(engine.resolve(), files, count)
    if hostile is not None:
        found["mixed"] = mixed(engine.resolve(), files, hostile)
    text = json.dumps(found, indent=1)
    print(text)
    if json_path is not None:
        json_path.write_text(text + os.linesep, encoding="utf-8")
    parts = [found[part] for part in ("long", "mixed") if part in found]
    broken = [name for part in parts for name, value in part.items() if value is False]
    if broken:
        raise click.ClickException(f"does not hold: {', '.join(broken)}")


if __name__ == "__main__":
    main()
