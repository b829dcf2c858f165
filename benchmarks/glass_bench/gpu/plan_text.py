"""What a plan of TensorRT for RTX says of itself: its steps, and the types of what they read and write.

The builder writes the program of a plan into it in words, if it is asked for details. NVIDIA documents no format; this
is what 1.7 writes. A plan with several optimisation profiles holds a program for each.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

PRODUCTS = ("corrltn", "fully_connected")  # a convolution (correlation), a product of matrices

_LINE = re.compile(rb"\n +(\w+)=\{ ([^\n]*)")
_NAME = re.compile(r'\bname=("[^"]+"|\S+)')  # in quotes it may hold spaces: `relu [profile 1]`
_TYPE = re.compile(r"\btype=(\w+)")
_READS = re.compile(r"\b(?:input|input_args)=\{([^}]*)\}")
_WRITES = re.compile(r"\b(?:output|output_args)=\{([^}]*)\}")
_NODES = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_NORM = "MeanSubMulMeanAddSqrtDivMulMulAdd"  # a kernel's name lists its steps: nothing is narrowed between these


@dataclass(frozen=True)
class Step:
    """One step of a plan that computes ONNX nodes (`nodes`, by name).

    `kind` is the builder's word, `name` a kernel or a node; `reads` and `writes` are types such as `int8` and `half`,
    without the shapes that kernels are handed too.
    """

    kind: str
    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def is_int8_product(self) -> bool:
        """Whether int8 is multiplied by int8: the two operands stand first."""
        return self.kind in PRODUCTS and self.reads[:2] == ("int8", "int8")


def plan_steps(plan: Path) -> tuple[Step, ...]:
    """The steps of all programs in a plan, in order."""
    types = dict[str, str]()  # each program names its tensors anew, before its steps
    steps = []
    for kind, line in _LINE.findall(plan.read_bytes()):
        rest = line.decode("latin-1")
        if kind in (b"tensor", b"sub_tensor"):
            types[_name(rest)] = _first(_TYPE, rest)
        elif nodes := tuple(_NODES.findall(rest)):
            reads, writes = _types(types, _READS, rest), _types(types, _WRITES, rest)
            steps.append(Step(kind.decode(), _name(rest), reads, writes, nodes))
    return tuple(steps)


def nodes_in_int8(steps: Sequence[Step], products: Collection[str]) -> set[str]:
    """Those of the named products that every program of the plan multiplies in INT8."""
    narrow = {node for step in steps if step.is_int8_product for node in step.nodes}
    wide = {node for step in steps if step.kind in PRODUCTS and not step.is_int8_product for node in step.nodes}
    return (narrow - wide).intersection(products)


def attention_kernels(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Kernels that compute both products of an attention, and the softmax between them."""
    return tuple(step for step in steps if "mha" in step.name)


def norms_in_float32(steps: Sequence[Step]) -> dict[str, bool]:
    """For each LayerNorm, by its node: whether its kernels compute it in float32 from the mean to the last sum."""
    names = {node for step in steps for node in step.nodes if node.startswith("node_layer_norm")}
    return {name: _is_in_float32([step for step in steps if name in step.nodes]) for name in sorted(names)}


def _is_in_float32(kernels: Sequence[Step]) -> bool:
    """Of the kernels that a norm is cut into: values are float32 or widened to it, and narrowed after the last sum."""
    listed = "".join(step.name.removeprefix("__myl_") for step in kernels)
    return f"Cast{_NORM}" in listed or (_NORM in listed and "half" not in kernels[0].reads)


def _name(line: str) -> str:
    return _first(_NAME, line).strip('"')


def _types(types: dict[str, str], place: re.Pattern[str], rest: str) -> tuple[str, ...]:
    names = re.findall(r'"([^"]+)"', _first(place, rest))
    found = (types.get(name, "unknown") for name in names)
    return tuple(kind for kind in found if kind != "int64")


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
