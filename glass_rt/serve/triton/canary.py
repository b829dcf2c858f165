"""Asks a Triton server for one verdict, and checks the response. Needs Python alone.

Triton calls a model ready whose process has died, or whose responses are empty, so its health endpoints are not enough:

    python3 canary.py [--url http://127.0.0.1:8000] [--model NAME] [--timeout SECONDS]

Exit code 0: a verdict came. 1: it did not; the reason is on stderr.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MANIFEST = HERE / "1" / "bundle" / "manifest.json"
# 16 x 16 pixels, a gradient.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAH0lEQVQoz2P8z8Dwg0GAeMTyQwCogQQ0qmFUw9DRAAB5SPol7AFl"
    "sgAAAABJRU5ErkJggg=="
)
SHAPES = {"probabilities": [1, 2], "probability_fake": [1, 1], "label": [1, 1], "verdict": [1, 1]}

LABELS = ("fake", "real", "unsure", "none")


def main() -> int:
    """Runs the probe; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default=HERE.name, help="default: the name of the folder that this file is in")
    parser.add_argument("--timeout", type=float, default=20)
    arguments = parser.parse_args()
    try:
        problem = problem_with(ask(arguments.url, arguments.model, arguments.timeout), expected_bundle())
    except urllib.error.HTTPError as error:
        problem = f"HTTP {error.code}: {error.read(500).decode(errors='replace')}"
    except (OSError, ValueError) as error:  # no connection, a time-out, or a response that is not JSON
        problem = str(error)
    if problem:
        sys.stderr.write(f"no verdict: {problem}\n")
    return 1 if problem else 0


def ask(url: str, model: str, timeout: float) -> Any:
    """The server's response to the canary image, as JSON values."""
    tensor = len(PNG).to_bytes(4, "little") + PNG
    parameters = {"binary_data_size": len(tensor)}
    image = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": parameters}
    header = json.dumps({"inputs": [image]}).encode()
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v2/models/{model}/infer",
        header + tensor,
        {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # http_proxy is ignored
    with direct.open(request, timeout=timeout) as response:
        return json.load(response)


def problem_with(reply: Any, bundle_sha256: str | None) -> str | None:
    """What is wrong with a response; None where it is a verdict by the expected bundle."""
    try:
        tensors = {tensor["name"]: (tensor["shape"], tensor["data"]) for tensor in reply["outputs"]}
        for name, shape in SHAPES.items():
            if tensors[name][0] != shape or len(tensors[name][1]) != math.prod(shape):
                return f"{name} is {str(tensors[name])[:100]}; expected {shape}"
        real_and_fake, (probability,), (label,), (text,) = (tensors[name][1] for name in SHAPES)
        verdict = json.loads(text)
        if not (0 <= probability <= 1 and abs(sum(real_and_fake) - 1) < 1e-3 and label == verdict["label"] in LABELS):
            return f"probabilities {real_and_fake}, probability_fake {probability} and label {label} disagree"
        if bundle_sha256 not in (None, verdict["engine"]["bundle_sha256"]):
            return f"the verdict is by bundle {verdict['engine']['bundle_sha256']}, beside this file is {bundle_sha256}"
    except (KeyError, TypeError, ValueError) as error:
        return f"the answer is not a verdict ({type(error).__name__}: {error}): {str(reply)[:200]}"
    return None


def expected_bundle() -> str | None:
    """The bundle's SHA-256, where it lies beside this file."""
    return hashlib.sha256(MANIFEST.read_bytes()).hexdigest() if MANIFEST.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
