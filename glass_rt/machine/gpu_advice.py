"""The commands that make a machine ready for GPU engines, said alike by doctor, by `build` and by openers."""

from __future__ import annotations

GPU_COMMANDS = """For NVIDIA GPUs:
    pip install 'glass-rt[tensorrt-rtx,cuda]'      TensorRT for RTX: builds anywhere, this machine included
    glass-rt build --backbone vit_b16 --backend tensorrt_rtx --precision fp16
    pip install 'glass-rt[tensorrt,cuda]'          TensorRT: builds on the machine with the GPU
    glass-rt build --from BUNDLE --backend tensorrt
  The GPU needs an NVIDIA driver (nvidia-smi lists it): 580 or newer for CUDA 13."""


def rebuild_command(bundle: str, backend: str, precision: str) -> str:
    """What fixes a bundle that was built for another machine; neither PyTorch nor the checkpoint is needed."""
    return f"glass-rt build --from {bundle} --backend {backend} --precision {precision} --output DIR"
