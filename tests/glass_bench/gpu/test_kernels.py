"""Kernels are counted by the type in which they sum."""

from __future__ import annotations

import json

import pytest
from glass_bench.gpu.kernels import kernels_of


@pytest.mark.parametrize(
    ("name", "half", "float32"),
    [
        ("sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x32_stage4", 0, 1),
        ("sm80_xmma_gemm_f16f16_f16f16_f16_tn_n_tilesize128x64x64_stage3", 1, 0),
        ("sm86_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x32x64", 1, 0),
        ("ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_stages_64x3_tn", 0, 1),
        ("ampere_h16816gemm_128x64_ldg8_stages_64x3_tn", 1, 0),
        ("cutlass_tensorop_h884gemm_256x128_32x2_nn_align8", 1, 0),
        ("turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_tn", 0, 1),
        ("sm90_xmma_gemm_i8i8_i8i32_f32_tn_n", 0, 0),
        ("__myl_CastMeanSubMulMeanAddSqrtDivMulMulAdd_0x16816", 0, 0),
    ],
)
def test_a_name_says_in_which_type_it_sums(name: str, half: int, float32: int) -> None:
    layers = [{"Name": "node_1", "TacticName": name}, {"Name": "node_2", "TacticName": name}, {"Name": "reshape"}]
    found = kernels_of(json.dumps({"Layers": layers, "Bindings": ["pixels"]}))
    assert (found["sum in half"], found["sum in float32"]) == (2 * half, 2 * float32)
    assert found["names"] == {name: 2, "reshape": 1}


@pytest.mark.parametrize(
    "told", ["not JSON: sm80_xmma_gemm_f16f16_f16f16_f16_tn_n", '["sm80_xmma_gemm_f16f16_f16f16_f16_tn_n"]', "{}"]
)
def test_what_has_another_form_is_searched(told: str) -> None:
    assert kernels_of(told)["sum in half"] == int(told != "{}")


def test_layers_may_be_names_alone() -> None:
    assert kernels_of('{"Layers": ["one", "ampere_h16816gemm_128x64"]}')["sum in half"] == 1
