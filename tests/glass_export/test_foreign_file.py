"""What is taken for a checkpoint and is none is named, with what to do about it."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from glass_export.checkpoint import read_checkpoint
from onnx import TensorProto, helper

from glass_rt.errors import CheckpointError

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def onnx_model(path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    onnx.save(helper.make_model(graph, producer_name="test"), path)


def zipped(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, "x")

    return write


def folder(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        for name in names:
            (path / name).touch()

    return write


def saved_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def torchscript(path: Path) -> None:
    zipped("x/data.pkl", "x/code/__torch__.py", "x/constants.pkl")(path)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "Git LFS": (lambda path: path.write_text(LFS), "is a Git LFS pointer.*git lfs pull"),
    "a page": (lambda path: path.write_text("\n<!DOCTYPE html>\n<html>"), "is an HTML page"),
    "a page without doctype": (lambda path: path.write_text("<HTML><head>"), "is an HTML page"),
    "a page behind a byte order mark": (lambda path: path.write_text("\ufeff<!DOCTYPE html>"), "is an HTML page"),
    "an error of a store without a head": (lambda path: path.write_text("<Error><Code>x</Code></Error>"), "is XML"),
    "a picture of WebP": (lambda path: path.write_bytes(b"RIFF\0\0\0\0WEBPVP8 "), "is a picture"),
    "a PDF": (lambda path: path.write_bytes(b"%PDF-1.4"), "is a PDF"),
    "an error of a store": (lambda path: path.write_text('<?xml version="1.0"?><Error/>'), "is XML"),
    "an error of an API": (lambda path: path.write_text('{"error": "no access"}'), r"is JSON \(error\), not a checkp"),
    "a JSON list": (lambda path: path.write_text("[1]"), "is JSON, not a checkpoint"),
    "ONNX": (onnx_model, "is an ONNX model"),
    "SavedModel": (lambda path: path.write_bytes(b"\x08\x01\x12\xc7\x01"), "is a TensorFlow SavedModel"),
    "GGUF": (lambda path: path.write_bytes(b"GGUF\3\0\0\0"), "is a GGUF file"),
    "Keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n\0"), "is an HDF5 file"),
    "Keras 3": (zipped("metadata.json", "model.weights.h5"), "is a Keras model"),
    "TensorFlow Lite": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3"), "is a TensorFlow Lite model"),
    "TorchScript": (torchscript, "is a TorchScript archive.*never run"),
    "an exported program": (zipped("x/archive_format", "x/models/model.json"), "torch.export"),
    "npy": (saved_array, "is a NumPy array"),
    "npz": (lambda path: path.write_bytes(npz()), "is an archive of NumPy arrays"),
    "a ZIP archive": (zipped("readme.txt", "weights/model.pt"), r"did not write \(it holds readme.txt, weights/"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x")), "is compressed with gzip: unpack it"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "is a picture"),
    "an empty file": (Path.touch, "is empty"),
    "a folder": (folder("model.pt", "notes.txt"), "is a folder: name the checkpoint in it, model.pt"),
    "a folder with nothing": (folder(), "is a folder: name the checkpoint in it"),
    "Accelerate's folder": (
        folder("model-00001-of-00002.safetensors", "model.safetensors.index.json"),
        "name the checkpoint in it, model.safetensors.index.json",
    ),
    "a distributed checkpoint": (folder(".metadata", "__0_0.distcp"), "dcp_to_torch"),
    "DeepSpeed's folder": (folder("latest", "zero_to_fp32.py"), "zero_to_fp32.py"),
    "a bundle": (folder("manifest.json", "global.xml"), "is a bundle, no checkpoint.*--from"),
    "a portable model": (folder("manifest.json", "global.fp32.onnx"), "is a portable model.*--from"),
    "an unpacked checkpoint": (folder("data.pkl", "version"), "was unpacked into"),
}


def npz() -> bytes:
    import io

    file = io.BytesIO()
    np.savez(file, a=np.zeros(2))
    return file.getvalue()


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_checkpoint_is_named(kind: str, name: str, tmp_path: Path) -> None:
    make, says = FILES[kind]
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_torch_s_own_archives_are_not_taken_for_others(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2, 2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="does not fit"):
        read_checkpoint(tmp_path / "x.pt")
