"""The commands are light until they are typed."""

import subprocess
import sys

from tests.support import Cli

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "sklearn", "scipy", "matplotlib", "mlperf_loadgen", "PIL")


def test_listing_the_commands_loads_no_heavy_library() -> None:
    code = (
        "import sys, glass_bench.command, glass_bench.eval_command\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bench_and_eval_are_commands(cli: Cli) -> None:
    listed = cli("--help").stdout
    assert "bench" in listed
    assert "eval" in listed
    assert {"compare", "experiment"} <= set(cli("bench", "--help").stdout.split())


def test_bench_without_images_says_what_is_missing(cli: Cli) -> None:
    done = cli("bench", "--engine", "x")
    assert done.returncode == 2
    assert "--images DIR is needed" in done.stderr
