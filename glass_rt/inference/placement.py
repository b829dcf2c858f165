"""Where images are decoded and their views are made: in memory by the CPU, or on the GPU of the engines."""

from __future__ import annotations

from importlib.util import find_spec

from glass_rt.backends.cuda.codec_library import codec_missing
from glass_rt.backends.cuda.image_codec import ImageCodec
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import UsageError
from glass_rt.image.views import HostViews, ViewWriter
from glass_rt.inference.engines import device_of
from glass_rt.machine.device import device_from_text, kind_of
from glass_rt.machine.environment import installed_memory
from glass_rt.machine.limits.memory import smallest_limit
from glass_rt.options import RunOptions

_MEMORY_SHARE = 16  # this part of the memory is for the pixels of one batch that was decoded on the device


def check_views(manifest: BundleManifest, views: str) -> None:
    """Raises UsageError where the views of this bundle's engines cannot be made there."""
    if views not in ("host", "device"):
        raise UsageError(f"views: got {views!r}; expected host or device")
    if views == "device" and not manifest.engine.backend.startswith("tensorrt"):
        raise UsageError(f"views: {manifest.engine.backend} engines read views from memory; device is for TensorRT's")
    if views == "device" and manifest.model.architecture != "glass":
        raise UsageError("views: the resize-only model's view is Pillow's, which is only made in memory")


def check_decode(manifest: BundleManifest, run: RunOptions) -> None:
    """Raises UsageError where these engines' device cannot decode images as `run.decode` asks."""
    device = device_of(manifest, run.device)
    if run.decode == "device" and kind_of(device) != "cuda":
        raise UsageError(
            f"decode: device is for engines on an NVIDIA GPU, and these run on {device}; leave it out, or choose "
            "--device cuda"
        )


def check_codec_installed() -> None:
    """Raises MissingDependency where the decoder of the device is not there; it is not imported."""
    if find_spec("nvidia") is None or find_spec("nvidia.nvimgcodec") is None:
        raise codec_missing()


def place_of_views(manifest: BundleManifest, run: RunOptions) -> str:
    """`host` or `device`: what is decoded on the device is resized and cut there too, where the engines can read it."""
    if run.decode == "device" and run.views == "host":
        try:
            check_views(manifest, "device")
        except UsageError:
            return "host"
        return "device"
    return run.views


def open_views(manifest: BundleManifest, run: RunOptions) -> ViewWriter:
    """What writes the views: in memory, in pinned memory for TensorRT's engines, or on their GPU.

    Raises MissingDependency, BackendError.
    """
    if not manifest.engine.backend.startswith("tensorrt"):
        return HostViews()
    from glass_rt.backends.cuda import open_gpu
    from glass_rt.backends.cuda.device_views import DeviceViews
    from glass_rt.backends.cuda.pinned_views import PinnedViews, most_pinned
    from glass_rt.backends.trt.backend import gpu_index

    gpu = open_gpu(gpu_index(run.device))
    try:
        return DeviceViews(gpu) if run.views == "device" else PinnedViews(gpu, most_pinned(run.memory))
    except BaseException:
        gpu.close()
        raise


def open_codec(run: RunOptions, *, in_memory: bool) -> ImageCodec:
    """The decoder of the engines' GPU. Raises MissingDependency, BackendError.

    `in_memory`: it gives arrays; those of one batch take a small part of what memory there is.
    """
    from glass_rt.backends.cuda import open_gpu

    index = _index_of(run.device)
    most_bytes = (smallest_limit(run.memory) or installed_memory()) // _MEMORY_SHARE if in_memory else None
    return ImageCodec(open_gpu(index), index, in_memory=in_memory, most_bytes=most_bytes)


def _index_of(device: str | None) -> int:
    """`cuda:1` -> 1; None is the first GPU."""
    return device_from_text(device or "cuda", ("cuda",)).index
