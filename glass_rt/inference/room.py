"""What fits into the memory that this process was given: the engines, the views of a run, the decoders and an image.

A process that takes more than its control group allows is killed without a word, and some libraries end in the same
way where addresses run out. So what is known beforehand is compared with what is left, and refused by name.
"""

from __future__ import annotations

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import BundleManifest, Model
from glass_rt.errors import OutOfMemory
from glass_rt.image.encoded import ArrayImage, EncodedImage
from glass_rt.image.resize import antialiased_bytes, pillow_bytes
from glass_rt.inference.engine_memory import engine_bytes, engines_take, library_addresses
from glass_rt.machine.limits.memory import MB, MemoryLimit, require_memory, smallest_limit, tightest

_BYTES_PER_VIEW = 64 * MB  # of the limit, for each view of a run: layers took 3 to 8 MB of them, weights the most
_BESIDE_ENGINES = 128 * MB  # of the limit: Python with its modules, 30 to 50 MB, and a photograph of 24 MP, 82 MB
_BYTES_PER_DECODER = 128 * MB  # of the limit: the pixels of a 24 MP photograph, twice
_KEPT_FREE = 8  # this part of what is left is for results, requests and whatever else a process does
_BLAS_ADDRESSES = 48 * MB  # that OpenBLAS maps for its first product; where there are fewer it ends the process
_BESIDE_PIXELS = 4 * MB  # of a decoder, whatever the image's size (tests/glass_rt/image/test_decoding_memory.py)


def most_views(manifest: BundleManifest, usual: int, device: str, asked: int | None) -> int:
    """Views in one run of an engine: the `usual` number, or as many as the lowest limit on memory suggests, from 1 on.

    Beside the engines, as they are expected to be with full batches, there is room for a photograph.
    """
    limit = smallest_limit(asked)
    if limit is None:
        return usual
    for views in range(min(usual, limit // _BYTES_PER_VIEW), 1, -1):
        if engines_take(manifest, views, device) <= limit - limit // _KEPT_FREE - _BESIDE_ENGINES:
            return views
    return 1


def most_decoders(asked: int | None) -> int | None:
    """Threads that decode, which the lowest limit on memory suggests; None where there is no limit."""
    limit = smallest_limit(asked)
    return None if limit is None else max(1, limit // _BYTES_PER_DECODER)


def check_engines_fit(bundle: Bundle, batch: int, device: str, asked: int | None) -> None:
    """Raises OutOfMemory where the engines do not fit into what is left, opened and at work on `batch` views.

    `asked`: bytes that the user lets this process hold, as everywhere here.
    """
    if expected := engines_take(bundle.manifest, batch, device, pinned=bundle.pinned):
        mapped = library_addresses(bundle.manifest)
        require_memory(f"open the engines of {bundle.folder.name}", expected, mapped, asked)


def check_next_engine_fits(
    bundle: Bundle, role: str, opened: str, grown: int, expected: int, asked: int | None
) -> None:
    """Raises OutOfMemory where the engine of `role` does not fit, by the `grown` bytes that the one of `opened` took.

    How much a library holds for a byte of weights depends on its version too: where the first engine took more than
    its part of what is `expected`, so will the next.
    """
    sizes = engine_bytes(bundle.manifest, role), engine_bytes(bundle.manifest, opened)
    if grown > 0 and all(sizes):
        needed = max(expected - grown, grown * sizes[0] // sizes[1])
        require_memory(f"open the {role} engine of {bundle.folder.name}", needed, asked=asked)


def image_bytes(image: EncodedImage | ArrayImage, model: Model) -> int:
    """Bytes that one image takes at most until its views are made, those of its file among them."""
    resizing = pillow_bytes if model.architecture == "resize" else antialiased_bytes
    return max(image.peak_bytes + _BESIDE_PIXELS, image.decoded_bytes + resizing(*image.size_hw, model.crop_size))


def view_bytes(num_crops: int, crop_size: int) -> int:
    """Bytes of an image's views: one of the whole as float32, and its crops as uint8, with three channels."""
    return 3 * crop_size * crop_size * (4 + num_crops)


def image_room(asked: int | None, kept: int = 0, aside: int = 0) -> MemoryLimit | None:
    """The limit that leaves least for images being decoded, less what is kept free; None where there is none.

    `kept`: bytes that the decoder holds for pixels already and will use again. `aside`: bytes that the engines,
    or other parts of this process, will still take.
    """
    limit = tightest(asked)
    if limit is None:
        return None
    used = limit.used - kept + aside
    free = max(_BLAS_ADDRESSES if limit.addresses else 0, (limit.limit - used) // _KEPT_FREE)
    return MemoryLimit(limit.name, limit.limit, used + free, limit.addresses)


def check_image_fits(needed: int, limit: MemoryLimit | None) -> None:
    """Raises OutOfMemory where one image alone takes more bytes than `image_room` leaves."""
    if limit is not None and needed > limit.room:
        raise OutOfMemory(f"decode this image: that takes up to {needed // MB} MB, and {limit}")
