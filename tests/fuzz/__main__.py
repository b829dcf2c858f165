"""`python -m tests.fuzz --trials 100000 --seed 606 --output record.json`: a campaign and its record."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from tests.fuzz.campaign import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=606)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends earlier than all trials")
    parser.add_argument("--output", type=Path, help="where the record is written")
    options = parser.parse_args()
    record = run(options.seed, options.trials, options.seconds, options.first)
    packages = ("numpy", "opencv-python-headless", "pillow", "pillow-heif", "simplejpeg")
    written = {
        "command": f"python -m tests.fuzz --trials {options.trials} --seed {options.seed}",
        **record.as_json(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in packages},
    }
    text = json.dumps(written, indent=2) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text)
    return 1 if record.failures else 0


if __name__ == "__main__":
    sys.exit(main())
