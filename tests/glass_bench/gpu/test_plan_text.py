"""Plans read as text: lines as TensorRT for RTX 1.7 writes them, between bytes that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from glass_bench.gpu.plan_text import Step, attention_kernels, nodes_in_int8, norms_in_float32, plan_steps

TENSORS = """
  tensor={ alignment=128 dims={ 4 } name="codes" offset=0 stride_order={ 1 0 } strides={ 4 1 } type=int8 }
  sub_tensor={ base="codes" const_offset=0 dims={ 4 } name="part^deref" offset=0 strides={ 4 1 } type=int8 }
  tensor={ alignment=128 dims={ 4 } name="codes [profile 1].1_27" offset=0 strides={ 4 1 } type=int8 }
  tensor={ alignment=128 dims={ 4 } name="weights" offset=0 strides={ 4 1 } type=int8 }
  tensor={ alignment=128 dims={ 4 } name="halves" offset=0 strides={ 4 1 } type=half }
  tensor={ alignment=128 dims={ 4 } name="sums" offset=0 strides={ 4 1 } type=float }
  tensor={ alignment=128 dims={ 1 } name="size" offset=0 strides={ 1 } type=int64 }
"""
PRODUCT = '  %s={ name="%s" output={"sums" } input={"%s" "%s" "sums" } alpha=3F800000 layers="%s" }\n'
KERNEL = (
    '  function={ name=%s fqn=x args={ "halves" } input_args={ "%s" "size" } output_args={ "halves" } layers="%s" }\n'
)


def plan(folder: Path, *lines: str) -> Path:
    path = folder / "engine.plan"
    path.write_bytes(b"\x00\xff\n \x80" + TENSORS.encode() + "".join(lines).encode() + b"\x00\n  \xfe={ \x01")
    return path


def layers(*names: str) -> str:
    return "".join(f"[ONNX Layer: {name}]" for name in names)


def test_a_step_has_its_types_and_nodes(tmp_path: Path) -> None:
    path = plan(tmp_path, PRODUCT % ("corrltn", "node_conv", "part^deref", "weights", layers("node_conv", "x.DQ")))
    step = Step("corrltn", "node_conv", ("int8", "int8", "float"), ("float",), ("node_conv", "x.DQ"))
    assert plan_steps(path) == (step,)


def test_shapes_and_steps_of_no_node_are_left_out(tmp_path: Path) -> None:
    path = plan(tmp_path, KERNEL % ("__myl_Add", "halves", layers("node_add")), KERNEL % ("__myl_Mul", "sums", ""))
    assert [(step.name, step.reads) for step in plan_steps(path)] == [("__myl_Add", ("half",))]


@pytest.mark.parametrize(
    ("kind", "operands", "is_int8"),
    [
        ("corrltn", ("codes", "weights"), True),
        ("fully_connected", ("part^deref", "weights"), True),
        ("corrltn", ("codes [profile 1].1_27", "weights"), True),  # of the second optimisation profile
        ("fully_connected", ("halves", "weights"), False),  # INT8 of the weights alone
        ("corrltn", ("codes", "halves"), False),
        ("corrltn", ("codes", "never heard of"), False),
        ("maxpool", ("codes", "weights"), False),
    ],
)
def test_a_product_is_int8_where_both_operands_are(
    tmp_path: Path, kind: str, operands: tuple[str, str], is_int8: bool
) -> None:
    steps = plan_steps(plan(tmp_path, PRODUCT % (kind, "node", *operands, layers("node"))))
    assert [step.is_int8_product for step in steps] == [is_int8]
    assert nodes_in_int8(steps, ["node", "another"]) == ({"node"} if is_int8 else set())


def test_a_product_that_one_profile_computes_in_half_is_not_counted(tmp_path: Path) -> None:
    narrow = PRODUCT % ("corrltn", "node", "codes", "weights", layers("node"))
    wide = PRODUCT % ("corrltn", "node", "halves", "halves", layers("node"))
    assert nodes_in_int8(plan_steps(plan(tmp_path, narrow, narrow)), ["node"]) == {"node"}
    assert nodes_in_int8(plan_steps(plan(tmp_path, narrow, wide)), ["node"]) == set()


def test_each_program_names_its_tensors_anew(tmp_path: Path) -> None:
    product = PRODUCT % ("corrltn", "node", "codes", "weights", layers("node"))
    again = '  tensor={ dims={ 4 } name="codes" offset=0 type=half }\n'
    steps = plan_steps(plan(tmp_path, product, again, product))
    assert [step.reads[0] for step in steps] == ["int8", "half"]


@pytest.mark.parametrize(
    ("kernels", "reads", "exact"),
    [
        (("CastMeanSubMulMeanAddSqrtDivMulMulAddCast",), "halves", True),
        (("ReshTranCastMeanSubMulMean", "AddSqrtDivMulMulAddCastCastMul"), "halves", True),  # cut in two
        (("ReshMeanSubMulMeanAddSqrtDivMulMulAdd",), "sums", True),  # which are float32 already
        (("ReshMeanSubMulMeanAddSqrtDivMulMulAdd",), "halves", False),
        (("CastMeanSubMulMeanAddSqrtDivCastMulMulAdd",), "halves", False),
    ],
)
def test_a_norm_is_in_float32_from_the_mean_to_the_last_sum(
    tmp_path: Path, kernels: tuple[str, ...], reads: str, exact: bool
) -> None:
    lines = [KERNEL % (f"__myl_{name}", reads, layers("node_layer_norm", "node_add")) for name in kernels]
    assert norms_in_float32(plan_steps(plan(tmp_path, *lines))) == {"node_layer_norm": exact}


def test_kernels_of_attention_are_known_by_name(tmp_path: Path) -> None:
    path = plan(tmp_path, KERNEL % ("_gemm_mha_v2", "halves", layers("node_softmax")), KERNEL % ("x", "sums", "[x]"))
    assert [step.nodes for step in attention_kernels(plan_steps(path))] == [("node_softmax",)]
