"""Asks `glass-rt serve` or Triton by the Open Inference Protocol.

    python ask_with_tritonclient.py HOST:PORT MODEL IMAGE...

The port is that of HTTP. For gRPC import tritonclient.grpc instead and name its port: the calls are the same.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton


def main(address: str, model: str, *paths: str) -> None:
    """Sends all images in one request and prints what each verdict rests on."""
    images = triton.InferInput("image", [len(paths), 1], "BYTES")
    images.set_data_from_numpy(np.array([[Path(path).read_bytes()] for path in paths], np.object_))
    client = triton.InferenceServerClient(address)
    answer = client.infer(model, [images], parameters={"seed": 606})
    for path, (text,) in zip(paths, answer.as_numpy("verdict"), strict=True):
        verdict = json.loads(text)
        strongest = max(verdict["crops"], key=lambda crop: abs(crop["effect"] or 0))
        print(f"{path} {verdict['probability_fake']:.4f} strongest crop at {strongest['left']}, {strongest['top']}")
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
