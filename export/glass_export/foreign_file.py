"""Files that are taken for checkpoints and are none, told by their content."""

from __future__ import annotations

import json
import re
import stat
import zipfile
from pathlib import Path

from glass_rt.bundle.folder import MANIFEST

HEAD = 1 << 10  # bytes of a file that tell its kind
BOM = b"\xef\xbb\xbf"
INDEX_SUFFIX = ".index.json"
_UNPACK = "unpack it and name the checkpoint in it"
_FROM_PYTORCH = "name the PyTorch checkpoint that it was made from"
_AGAIN = "save the model's state_dict with PyTorch: torch.save(model.state_dict(), FILE)"
_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (  # offset, bytes there, what the file is, what to do
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it stands for", "fetch that with git lfs pull"),
    (0, b"GGUF", "a GGUF file", _FROM_PYTORCH),
    (0, b"ggjt", "a GGML file", _FROM_PYTORCH),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write", _AGAIN),
    (4, b"TFL3", "a TensorFlow Lite model", _AGAIN),
    (0, b"\x93NUMPY", "a NumPy array", _AGAIN),
    (0, b"ftrt", "a TensorRT engine", _FROM_PYTORCH),
    (0, b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ\0", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", f"{_UNPACK}; where PyTorch itself wrote it, it holds code, which is never run"),
    (0, b"\xff\xd8\xff", "a picture", "name the model's checkpoint"),
    (0, b"\x89PNG", "a picture", "name the model's checkpoint"),
    (8, b"WEBP", "a picture", "name the model's checkpoint"),
    (0, b"%PDF", "a PDF", "name the model's checkpoint"),
)
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)", re.IGNORECASE | re.DOTALL
)
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|error>)", re.IGNORECASE)
# A protobuf message whose first field is a small version and whose second is a text: ONNX's ModelProto (ir_version from
# 3 on), and TensorFlow's SavedModel, whose version is 1.
_PROTOBUF = re.compile(rb"\x08([\x01-\x14])[\x12\x1a\x22\x3a\x42]")
_INSIDE = (  # of ZIP archives: a name inside, what the archive is, what to do
    (re.compile(r"(^|/)code/"), "a TorchScript archive, which holds code that is never run", _AGAIN),
    (re.compile(r"(^|/)(archive_format|models/\w+\.json|serialized_exported_program.json)$"), "torch.export's", _AGAIN),
    (re.compile(r"\.weights\.h5$"), "a Keras model", _AGAIN),
    (re.compile(r"\.npy$"), "an archive of NumPy arrays", _AGAIN),
    (re.compile(r"^MAR-INF/"), "a TorchServe archive", _UNPACK),
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is safetensors: the length of a JSON object in 8 bytes, and the object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def why_foreign(path: Path) -> str | None:
    """What a file is that is no checkpoint, and what to do, as the end of a sentence; None where it may be one.

    Raises OSError.
    """
    if path.is_dir():
        return _of_folder(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file: name a file"
    if status.st_size == 0:  # files of /proc too, some of which are waited for without an end
        return "is empty: its download or its writing was cut short"
    with path.open("rb") as file:
        head = file.read(HEAD)
    if is_safetensors(head):  # before all others: a length may be any bytes
        return None
    for offset, magic, what, remedy in _MAGIC:
        if head.startswith(magic, offset):
            return f"is {what}: {remedy}"
    if _PAGE.match(head):
        return "is an HTML page: the address shows a page or asks for a log-in; download the file itself"
    if _XML.match(head):
        return f"is XML, as an OpenVINO model or a server's error: {_FROM_PYTORCH}, or download it again"
    if version := _PROTOBUF.match(head):
        what = "a TensorFlow SavedModel" if version[1] == b"\x01" else "an ONNX model"
        return f"is {what}: {_FROM_PYTORCH}"
    return _of_zip(path) if head.startswith(b"PK\x03\x04") else None


def shard_hint(path: Path) -> str:
    """For a file that is named as a shard of a checkpoint: how to read the whole; else nothing."""
    if not (shard := _SHARD.fullmatch(path.name)):
        return ""
    index = f"{shard[1]}{shard[4]}{INDEX_SUFFIX}"
    return f". This is shard {int(shard[2])} of {int(shard[3])}: name {index}, which lists them all"


def _of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # damaged: the reader says how
    for inside, what, remedy in _INSIDE:
        if any(inside.search(name) for name in names):
            return f"is {what}: {remedy}"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return None
    shown = ", ".join(name[:40] for name in names[:3]) or "nothing"
    return f"is a ZIP archive that torch.save did not write (it holds {shown}): {_UNPACK}"


def _of_folder(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir())
    if MANIFEST in names and any(name.endswith(".onnx") for name in names):
        return f"is a portable model, no checkpoint: build from it with --from {path}"
    if MANIFEST in names:
        return f"is a bundle, no checkpoint: build from the portable model in it with --from {path}"
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return (
            "is a distributed checkpoint of PyTorch: join its shards with "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    if "zero_to_fp32.py" in names:
        return "is a checkpoint of DeepSpeed: join its shards with the zero_to_fp32.py in it, and name what that writes"
    if "data.pkl" in names:
        return "is a folder that a checkpoint was unpacked into: name the checkpoint itself"
    suffixes = (INDEX_SUFFIX, ".safetensors", ".pt", ".pth", ".ckpt", ".bin")
    found = [name for suffix in suffixes for name in names if name.endswith(suffix)]
    return f"is a folder: name the checkpoint in it{f', {found[0]}' if found else ''}"


def why_json(text: bytes) -> str:
    """What JSON is that is no shard index, as the end of a sentence."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "begins like JSON and is none: it is damaged, or no checkpoint"
    keys = ", ".join(str(key)[:30] for key in list(value)[:5]) if isinstance(value, dict) else ""
    return (
        f"is JSON{f' ({keys})' if keys else ''}, not a checkpoint and not the index of one: name the weights beside it"
    )
