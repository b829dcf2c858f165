"""Code that tests plant into the processes that judge: a decoder and an engine that misbehave for real.

No hook of glass-rt is used: a module named like an optional library of it stands first on the path, does its harm, and
otherwise does its work.
"""

from __future__ import annotations

from pathlib import Path

POISON = b"<this file kills its decoder>"
HANG = b"<this file never ends>"

# simplejpeg decodes JPEGs where it is installed, and OpenCV does where it refuses: with the same pixels.
DECODER = f"""
import ctypes, time
import cv2, numpy

def decode_jpeg(data, *_, **__):
    if data.endswith({POISON!r}):
        ctypes.string_at(0)  # reads address 0: a segmentation fault
    if data.endswith({HANG!r}):
        time.sleep(1e6)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(numpy.frombuffer(data, numpy.uint8), flags)
    if pixels is None:
        raise ValueError("damaged")
    return pixels
"""

DEAD_ON_ARRIVAL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"


def ill_engine(healthy_runs: int) -> str:
    """ONNX Runtime whose sessions fail in every process after so many runs, and then write `simplejpeg.py.failed`."""
    return (
        DECODER
        + f"""
import onnxruntime
real_run, runs = onnxruntime.InferenceSession.run, [0]

def run(self, *arguments, **options):
    runs[0] += 1
    if runs[0] > {healthy_runs}:
        open(__file__ + ".failed", "a").close()
        raise RuntimeError("the device is lost")
    return real_run(self, *arguments, **options)

onnxruntime.InferenceSession.run = run
"""
    )


def plant(folder: Path, code: str) -> Path:
    """A folder to put first on the path, in which `simplejpeg` is that code."""
    folder.mkdir(exist_ok=True)
    (folder / "simplejpeg.py").write_text(code)
    return folder
