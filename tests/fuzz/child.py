"""Reads and decodes mutated files in a process of its own: `python -m tests.fuzz.child SEED FIRST LAST`.

A line of JSON a trial on stdout, after a line that names the trial before it starts: should it never end, or kill the
process, the parent knows which it was.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from glass_rt.errors import ImageError
from glass_rt.image.encoded import load, read_image
from glass_rt.machine.malloc import give_back_large_arrays
from tests.fuzz.corpus import Sample, corpus
from tests.fuzz.mutate import mutated

STATUS = Path("/proc/self/status")
REFERENCES = Path("/proc/self/clear_refs")


def main() -> None:
    seed, first, last = (int(argument) for argument in sys.argv[1:4])
    lines = os.fdopen(os.dup(1), "w", buffering=1)  # what a library prints goes elsewhere
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    samples = corpus()
    give_back_large_arrays()
    for sample in samples:  # what decoders load once is no file's fault
        load(sample.data)
    for trial in range(first, last):
        print(json.dumps({"starts": trial}), file=lines)
        print(json.dumps({"trial": trial, **judge(mutated(samples, seed, trial))}), file=lines)


def judge(sample: Sample) -> dict[str, Any]:
    """What came of one file: `outcome` (ok, refused, or how it failed), `decoded` (whether it got to the decoder)."""
    found: dict[str, Any] = {"form": sample.form, "name": sample.name, "outcome": "ok", "decoded": False, "budget": 0}
    before, start = reset_peak(), process_time()
    try:
        image = read_image(sample.data)
        found |= {"decoded": True, "budget": image.peak_bytes}
        decoded = image.decode()
        promised = image.header.decoded_size  # type: ignore[union-attr]  # of encoded bytes
        if (decoded.info.width, decoded.info.height) != promised or decoded.pixels.shape != (*promised[::-1], 3):
            found |= {"outcome": "shape", "says": f"{decoded.pixels.shape} instead of {promised}"}
        if decoded.pixels.dtype != np.uint8:
            found |= {"outcome": "shape", "says": str(decoded.pixels.dtype)}
    except ImageError as error:
        found |= {"outcome": "refused", "says": str(error)[:200]}
        if len(str(error).splitlines()) != 1:
            found["outcome"] = "words"
    except BaseException:
        found |= {"outcome": "exception", "says": traceback.format_exc()[-1500:]}
    return {**found, "seconds": round(process_time() - start, 3), "grown": status_bytes("VmHWM") - before}


def reset_peak() -> int:
    """Bytes that are resident now; the peak is counted from here."""
    REFERENCES.write_text("5")
    return status_bytes("VmRSS")


def status_bytes(name: str) -> int:
    with STATUS.open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
