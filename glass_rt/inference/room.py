"""What fits into the memory that this process was given: the engines, the views of a run, the decoders and an image.

A process that takes more than its control group allows is killed without a word, and some libraries end in the same
way where addresses run out. So what is known beforehand is compared with what is left, and refused by name.
"""

from __future__ import annotations

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.checked_files import with_suffix
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import OutOfMemory
from glass_rt.image.encoded import ArrayImage, EncodedImage
from glass_rt.machine.limits.memory import MB, MemoryLimit, require_memory, smallest_limit, tightest

_BYTES_PER_VIEW = 64 * MB  # of the limit, for each view of a run: layers took 3 to 8 MB of them, weights the most
_BYTES_PER_DECODER = 128 * MB  # of the limit: the pixels of a 24 MP photograph, twice
_KEPT_FREE = 8  # this part of what is left is for views, activations and the results
_BLAS_ADDRESSES = 48 * MB  # that OpenBLAS maps for its first product; where there are fewer it ends the process
# By backend: bytes held for each byte of an engine's files, bytes beside them, and addresses for the library. Less than
# the least that was measured (docs/guides/small-machines.md): what is refused would not have worked.
_HELD = {"openvino": (1.0, 40 * MB, 100 * MB), "onnxruntime": (1.2, 15 * MB, 40 * MB)}


def most_views(asked: int | None) -> int | None:
    """Views in one run of an engine that the lowest limit on memory suggests; None where there is no limit."""
    limit = smallest_limit(asked)
    return None if limit is None else max(1, limit // _BYTES_PER_VIEW)


def most_decoders(asked: int | None) -> int | None:
    """Threads that decode, as for `most_views`."""
    limit = smallest_limit(asked)
    return None if limit is None else max(1, limit // _BYTES_PER_DECODER)


def check_engines_fit(bundle: Bundle, asked: int | None) -> None:
    """Raises OutOfMemory where the engines of a CPU certainly do not fit into what is left.

    `asked`: bytes that the user lets this process hold, as everywhere here.
    """
    manifest = bundle.manifest
    per_byte, fixed, library = _HELD.get(manifest.engine.backend, (0.0, 0, 0))
    if bundle.pinned and manifest.engine.backend == "openvino":
        per_byte += 1  # for the private copy of the weights, which is kept
    held = int(per_byte * sum(_engine_bytes(manifest, role) for role in manifest.model.roles)) + fixed
    if held:
        require_memory(f"open the engines of {bundle.folder.name}", held, library, asked)


def check_next_engine_fits(bundle: Bundle, role: str, opened: str, grown: int, asked: int | None) -> None:
    """Raises OutOfMemory where the engine of `role` does not fit, by the `grown` bytes that the one of `opened` took.

    How much a library holds for a byte of weights depends on the layers and on its version. A third of what grew was
    seen to be used again by the next.
    """
    sizes = _engine_bytes(bundle.manifest, role), _engine_bytes(bundle.manifest, opened)
    if grown > 0 and all(sizes):
        require_memory(
            f"open the {role} engine of {bundle.folder.name}", 2 * grown * sizes[0] // sizes[1] // 3, asked=asked
        )


def _engine_bytes(manifest: BundleManifest, role: str) -> int:
    name = manifest.engine.files[role]
    names = {name, with_suffix(name, ".bin")}
    return sum(manifest.files[name].size for name in names if name in manifest.files)


def image_room(asked: int | None, kept: int = 0) -> MemoryLimit | None:
    """The limit that leaves least for images being decoded, less what is kept free; None where there is none.

    `kept`: bytes that the decoder holds for pixels already and will use again.
    """
    limit = tightest(asked)
    if limit is None:
        return None
    used = limit.used - kept
    free = max(_BLAS_ADDRESSES if limit.addresses else 0, (limit.limit - used) // _KEPT_FREE)
    return MemoryLimit(limit.name, limit.limit, used + free)


def check_image_fits(image: EncodedImage | ArrayImage, limit: MemoryLimit | None) -> None:
    """Raises OutOfMemory where one image alone takes more than `image_room` leaves."""
    if limit is not None and image.peak_bytes > limit.room:
        raise OutOfMemory(f"decode this image: that takes up to {image.peak_bytes // MB} MB, and {limit}")
