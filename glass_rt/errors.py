"""Everything that glass-rt raises on purpose.

    GlassError
    ├── UsageError            arguments that cannot work together          exit code 2
    ├── ImageError            one image cannot be judged; others go on     exit code 1
    │   ├── ImageNotReadable  no such file, a folder, no permission
    │   ├── ImageFormatError  not an image, or of a format that is not read
    │   ├── ImageTooLarge     more pixels than the limit, said by the header
    │   ├── ImageCorrupt      truncated or damaged
    │   └── ImageLethal       the process that judged it died of it        (only `bulk` survives that)
    ├── BundleError           a bundle or portable model cannot be used
    │   ├── BundleNotFound
    │   ├── BundleInvalid     schema, a missing, altered or foreign file
    │   ├── BundleUnfit       built for another GPU, library version or driver
    │   └── BundleExists      the output folder is there already
    ├── OutputLost            the file of results was deleted, replaced or changed while it was written
    ├── LabelsInvalid         labelled images that are not there, or whose labels cannot be read
    ├── CalibrationInvalid    the decision of a bundle, or a file that holds one, cannot be used
    ├── CheckpointError       a checkpoint does not fit the model
    ├── TrainingError         training cannot go on
    ├── ExportError           the export stage failed
    ├── BuildError            the engine stage failed
    │   └── ParityError       the engine does not compute what the model computes
    ├── BackendError          a vendor library failed while running
    ├── OutOfMemory           this machine had no memory for it; at another time, or for less, it may
    └── MissingDependency     an optional package is not installed

Messages carry what happened, what was expected and what to do.
"""

from __future__ import annotations

import re
from typing import ClassVar


def first_line(error: BaseException) -> str:
    """The first line of a library's message, or the error's type where it says nothing.

    Lines of OpenVINO that name a place in its source alone are passed over.
    """
    lines = str(error).strip().splitlines()
    lines = [line for line in lines if not line.startswith("Exception from ")] or lines
    return lines[0][:300] if lines else type(error).__name__


class GlassError(Exception):
    """Base of all errors raised on purpose; `kind` is the short name that JSON results carry."""

    kind: ClassVar[str] = "error"


class UsageError(GlassError, ValueError):
    """Arguments that cannot work, alone or together."""

    kind = "usage"


class ImageError(GlassError, ValueError):
    """One image cannot be judged. `sha256` is that of its file, in hexadecimal; None where it was not read."""

    kind = "image"
    sha256: str | None = None


class ImageNotReadable(ImageError):
    """The file cannot be read from disk."""

    kind = "not_readable"


class ImageFormatError(ImageError):
    """The bytes are not an image of a format that is read."""

    kind = "format"


class ImageTooLarge(ImageError):
    """The header announces more pixels than the limit allows."""

    kind = "too_large"


class ImageCorrupt(ImageError):
    """The image is truncated or damaged."""

    kind = "corrupt"


class ImageLethal(ImageError):
    """The process that judged the image died, or hung, and did so again with this image alone."""

    kind = "lethal"


class BundleError(GlassError, ValueError):
    """A bundle or a portable model cannot be used."""

    kind = "bundle"


class BundleNotFound(BundleError, FileNotFoundError):
    """There is no bundle at that path."""

    kind = "bundle_not_found"

    def __str__(self) -> str:  # OSError would format errno and file name instead
        return str(self.args[0]) if self.args else ""


class BundleInvalid(BundleError):
    """The folder's files are not those that its manifest lists."""

    kind = "bundle_invalid"


class BundleUnfit(BundleError):
    """The bundle is whole, but this machine cannot run its engines."""

    kind = "bundle_unfit"


class BundleExists(BundleError):
    """The output folder exists already."""

    kind = "bundle_exists"


class OutputLost(GlassError):
    """The file of results was deleted, replaced or changed by another program while it was written."""

    kind = "output_lost"


class LabelsInvalid(GlassError, ValueError):
    """Labelled images that are not there, or whose labels cannot be read."""

    kind = "labels"


class CalibrationInvalid(GlassError, ValueError):
    """A calibration contradicts itself, lacks a part, or belongs to another bundle."""

    kind = "calibration"


class CheckpointError(GlassError, ValueError):
    """A checkpoint does not fit the model."""

    kind = "checkpoint"


class TrainingError(GlassError, RuntimeError):
    """Training cannot go on, or a run cannot be resumed."""

    kind = "training"


class ExportError(GlassError, RuntimeError):
    """The export stage failed."""

    kind = "export"


class BuildError(GlassError, RuntimeError):
    """The engine stage failed."""

    kind = "build"


class ParityError(BuildError):
    """An engine does not compute what the model computes."""

    kind = "parity"


class BackendError(GlassError, RuntimeError):
    """A vendor library failed while running an engine."""

    kind = "backend"


class OutOfMemory(GlassError, MemoryError):
    """The machine had no memory, or no thread, for what was asked: nothing is wrong with the image or the engine."""

    kind = "out_of_memory"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"not enough memory, or threads, to {what}: use fewer --workers, a smaller --batch, an INT8 engine or a "
            "smaller backbone, or allow this process more memory, and more threads (ulimit -u)"
        )


# Linkers say `failed to map segment` for want of addresses, unless it is not permitted (noexec); and of static TLS that
# they `cannot allocate memory` for it, of which there is little wherever libraries are loaded late.
_NO_MEMORY = re.compile(
    r"bad.?alloc|(fail\w*|cannot|could not|unable) (to )?allocat(?!e memory in static TLS)"
    r"|(out of|not enough|insufficient) memory|failed to map segment(?!.*not permitted)"
    r"|resource temporarily unavailable|can't start new thread",  # of a thread that could not be started
    re.IGNORECASE,
)


def drop_frames(error: BaseException) -> None:
    """Removes the tracebacks of an error, and of the errors that it came from.

    An error that a future or a variable of its own frames keeps is a reference cycle: without this, the bodies in its
    frames stay in memory until Python looks for cycles.
    """
    left, done = [error], set[int]()
    while left:
        one = left.pop()
        done.add(id(one))
        one.__traceback__ = None
        left += [cause for cause in (one.__cause__, one.__context__) if cause is not None and id(cause) not in done]


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of a library or a linker is a lack of memory, which many tell by their messages alone."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def vendor_failure(library: str, what: str, error: Exception) -> GlassError:
    """The error of ours for what a vendor's library raised while it was to do `what`, such as `open the engine`."""
    if lacks_memory(error):
        return OutOfMemory(what)
    return BackendError(f"{library} cannot {what}: {first_line(error)}")


def import_failure(error: ImportError, package: str, extra: str, purpose: str) -> GlassError:
    """The error of ours for a package that could not be imported: it is not installed, or its library does not load.

    `package`, `extra`, `purpose`: as for MissingDependency.
    """
    if isinstance(error, ModuleNotFoundError):
        return MissingDependency(package, extra, purpose)
    if lacks_memory(error):
        return OutOfMemory(f"load {package}")
    return BackendError(
        f"{package} is installed and cannot be loaded: {first_line(error)}; install it again: "
        f"pip install --force-reinstall {package}"
    )


class MissingDependency(GlassError, ImportError):
    """An optional package is not installed."""

    kind = "missing_dependency"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'glass-rt[{extra}]'")
