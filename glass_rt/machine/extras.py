"""Which of glass-rt's pip extras brings a backend, and the command that installs it: one table for all advice."""

from __future__ import annotations

# By backend. For the TensorRT backends `cuda` brings the access to the GPU besides.
BACKEND_EXTRAS = {
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "tensorrt": "tensorrt,cuda",
    "tensorrt_rtx": "tensorrt-rtx,cuda",
}


def install_command(extra: str) -> str:
    """The command that installs glass-rt with an extra, quoted for shells in which brackets have a meaning."""
    return f"pip install 'glass-rt[{extra}]'"
