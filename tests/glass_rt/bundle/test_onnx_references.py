"""The files that a graph takes weights from are found as the onnx package finds them, in every file that parses as a graph."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from glass_rt.bundle.onnx_references import external_files
from tests.bench_zoo import write_bundle

MUTATIONS = 4000


class Bytes:
    """Content in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


def external(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph_with(*tensors: TensorProto) -> onnx.ModelProto:
    branch = helper.make_graph([], "branch", [], [], list(tensors))
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=branch),
        helper.make_node("Constant", [], ["c"], value=tensors[0]),
    ]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], list(tensors[1:])))


def by_onnx(model: onnx.ModelProto) -> set[str]:
    """Locations of tensors whose data are external."""
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    return {
        entry.value if isinstance(entry.value, str) else bytes(entry.value).decode("utf-8", "surrogateescape")
        for tensor in _get_all_tensors(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }


@pytest.mark.parametrize("fault", [None, "slow", "failing"])
def test_a_graph_with_its_weights_inside_names_none(tmp_path: Path, fault: str | None) -> None:
    folder = write_bundle(tmp_path / "bundle", fault=fault)
    assert external_files(Bytes((folder / "global.onnx").read_bytes())) == ()


def test_locations_are_found_once_each_as_they_are_written() -> None:
    model = graph_with(external("a", "a.data"), external("b", "../b"), external("c", "a.data"), external("d", "/é"))
    content = model.SerializeToString()
    assert set(external_files(Bytes(content))) == by_onnx(model) == {"a.data", "../b", "/é"}
    assert len(external_files(Bytes(content))) == 3


def test_large_weights_are_not_read() -> None:
    model = graph_with(external("a", "a.data"))
    model.graph.initializer.append(TensorProto(name="large", data_type=TensorProto.FLOAT, raw_data=bytes(10 << 20)))
    content, read = Bytes(model.SerializeToString()), list[int]()

    class Counting:
        size = content.size

        def read_at(self, offset: int, size: int) -> bytes:
            read.append(size)
            return content.read_at(offset, size)

    assert external_files(Counting()) == ("a.data",)
    assert sum(read) < 1 << 20


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\x7f",  # a graph longer than the file
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length without an end
        b"\x0b\x0c",  # a group, which ONNX has none of
        b"\x0d\x00",  # a fixed number cut short
        b"\x80",  # a tag cut short
        b"not a graph",
    ],
)
def test_what_is_no_message_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"a field|a number"):
        external_files(Bytes(content))


def test_no_mutation_hides_a_location_from_us_that_onnx_sees() -> None:
    """Seeded; what is not accepted here is refused before a library sees it."""
    chance, parsed = random.Random(606), 0
    original = graph_with(external("a", "a.data"), external("b", "b.data")).SerializeToString()
    for _ in range(MUTATIONS):
        content = bytearray(original)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(content))
            if chance.random() < 0.5:
                content[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            else:
                content[place : place + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 5))
        try:
            model = onnx.load_model_from_string(bytes(content))
        except (DecodeError, ValueError):
            model = None
        try:
            found = external_files(Bytes(bytes(content)))
        except ValueError:
            continue
        if model is not None:
            parsed += 1
            assert by_onnx(model) <= set(found)
    assert parsed > MUTATIONS / 10
