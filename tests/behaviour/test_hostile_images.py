"""The hostile folder goes through `infer` without a crash, a hang, or much memory."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Bundles

pytestmark = pytest.mark.slow

GIGABYTE = 1 << 30


def peak_memory(*arguments: object) -> tuple[subprocess.CompletedProcess[str], int]:
    """Runs `glass-rt` and returns its peak resident memory in bytes, as the child itself reports it."""
    code = (
        "import atexit, resource, sys\n"
        "from glass_rt.cli import main\n"
        "atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))\n"
        "main()"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done, int(done.stderr.split()[-1]) * 1024


@pytest.mark.skipif(not hasattr(resource, "getrusage"), reason="needs getrusage")
def test_every_hostile_file_is_judged_or_refused(
    bundles: Bundles, real_images: Path, pictures: tuple[Path, ...]
) -> None:
    engine = bundles("mobilenet_v3_small").folder
    small, opened = peak_memory("infer", pictures[2], "--engine", engine)
    assert small.returncode == 0
    done, peak = peak_memory("infer", real_images / "hostile", pictures[0], "--engine", engine, "--jsonl")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    files = [path for path in (real_images / "hostile").rglob("*") if path.is_file()]
    assert len(results) == len(files) + 1
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    refused = {Path(result["path"]).name for result in results if "error" in result}
    assert {"bomb_png_gray1_40000x40000.png", "sof_65500sq.jpg", "zip_bomb_named.png", "trunc_0.5.jpg"} <= refused
    assert len(refused) < 45
    assert "label" in results[-1]
    assert peak - opened < GIGABYTE
