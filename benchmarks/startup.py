"""How long it takes until something happens: `import glass_rt` beyond NumPy and OpenCV, and `glass-rt --help`.

    python benchmarks/startup.py [--json FILE]

The targets: 150 ms and 0.4 s. Medians of fresh processes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import click

from glass_rt.machine.environment import cpu_name

IMPORT = (
    "import time, numpy, cv2; start = time.perf_counter(); import glass_rt; print(1e3 * (time.perf_counter() - start))"
)


def import_ms() -> float:
    """Milliseconds of `import glass_rt` in a process that has NumPy and OpenCV already."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def help_ms() -> float:
    """Milliseconds of a whole `glass-rt --help`."""
    start = perf_counter()
    subprocess.run([sys.executable, "-m", "glass_rt", "--help"], capture_output=True, check=True)
    return 1e3 * (perf_counter() - start)


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=11, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(repeats: int, json_path: Path | None) -> None:
    """Measure both."""
    import_ms(), help_ms()  # the first finds nothing in the disk cache
    figures = {
        "import_glass_rt_ms": statistics.median(import_ms() for _ in range(repeats)),
        "help_ms": statistics.median(help_ms() for _ in range(repeats)),
    }
    print(f"import glass_rt: {figures['import_glass_rt_ms']:.0f} ms beyond numpy and cv2")
    print(f"glass-rt --help: {figures['help_ms']:.0f} ms")
    if json_path is not None:
        json_path.write_text(json.dumps({"cpu": cpu_name(), "repeats": repeats, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
