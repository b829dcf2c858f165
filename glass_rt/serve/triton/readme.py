"""The README that a model in a Triton repository carries."""

from __future__ import annotations

from glass_rt.bundle.bundle import Bundle
from glass_rt.machine.extras import BACKEND_EXTRAS
from glass_rt.serve.oip.protocol import model_name
from glass_rt.serve.triton.config import ServingOptions
from glass_rt.version import __version__

_TEXT = """\
# {name}: GLASS on the Triton Inference Server

Written by glass-rt {version} for the bundle {sha256} ({backend} {precision}), which is in `1/bundle`.

## Start
In a container of Triton with its Python backend, with this folder's parent mounted as `/models`, in the folder that
holds a clone of glass-rt's repository:

    pip install './glass-rt[{extra}]'
    tritonserver --model-repository=/models --model-control-mode=explicit --load-model={name}

Give the container shared memory (`--shm-size 1g`): images travel through it. The Python backend of Triton 24.10 and
older breaks under NumPy 2: BYTES kill it, numbers come back empty. There, give the model an environment of its own,
made with the server's version of Python, and write this folder with `glass-rt triton --environment /opt/glass`:

    python3 -m venv /opt/glass
    /opt/glass/bin/pip install './glass-rt[{extra}]'
    /opt/glass/bin/pip install 'numpy<2'

(Pip warns that this is not what the packages ask for. They work with NumPy 1.26.)

## Is it alive?
    python3 canary.py --url http://127.0.0.1:8000

Exit code 0 after a verdict. Use this as the liveness probe, a few times a minute: when a model's process has died,
Triton goes on calling the model ready while every request fails.

## Ask
    import numpy as np
    import tritonclient.http as triton

    client = triton.InferenceServerClient("127.0.0.1:8000")
    image = triton.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[open("image.jpg", "rb").read()]], np.object_))
    answer = client.infer("{name}", [image], parameters={{"seed": 606}})
    print(answer.as_numpy("label"), answer.as_numpy("probability_fake"), answer.as_numpy("verdict"))

The clone's `docs/reference/oip.md` describes tensors and parameters. One request takes up to {max_batch} images;
an image that cannot be judged fails its request, with the reason. More than {queue} waiting requests are refused.
"""


def readme(bundle: Bundle, options: ServingOptions) -> str:
    """How to start, watch and ask the model."""
    engine = bundle.manifest.engine
    return _TEXT.format(
        name=model_name(bundle.manifest),
        version=__version__,
        sha256=bundle.sha256,
        backend=engine.backend,
        precision=engine.precision,
        extra=BACKEND_EXTRAS[engine.backend],
        max_batch=options.max_batch,
        queue=options.queue,
    )
