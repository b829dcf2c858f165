"""What a target's engines run on, against the mask in the header of plans that RTX builds for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest
from glass_engines.trt.compiler import TrtBuild, plan_from_onnx
from glass_engines.trt.profiles_file import find_profile
from glass_engines.trt.settings import TrtSettings
from onnx import TensorProto, helper

from glass_rt.backends.trt.library import load_library
from glass_rt.bundle.requirements import Shapes, capability
from glass_rt.errors import BackendError

pytestmark = pytest.mark.trt

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'glass-rt[tensorrt-rtx]'")

PlanFor = Callable[[str], bytes]

MASK = 0x20  # the byte of the header that says which architectures a plan has code for
BITS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")  # from the lowest on; the next one is for those after the last
TARGETS = ("default", "7.5", "8.0", "8.9", "8.6,8.9", "12.0", "12.1", "8.0,12.0")
GPUS = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1", "12.2")


@pytest.fixture(scope="module")
def plan_for(tmp_path_factory: pytest.TempPathFactory) -> PlanFor:
    """`plan_for(target)`: the plan of a graph of one node."""
    folder = tmp_path_factory.mktemp("targets")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["N", 4]) for name in ("pixels", "embedding")]
    node = helper.make_node("Relu", ["pixels"], ["embedding"])
    graph = helper.make_graph([node], "one node", ends[:1], ends[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), folder / "local.onnx"
    )
    library = load_library("tensorrt_rtx")

    @cache
    def plan(target: str) -> bytes:
        engine = folder / f"{target}.plan"
        settings = TrtSettings(target=target)
        build = TrtBuild(library, settings, find_profile("rtx"), library.requirements(target, None), "")
        plan_from_onnx(build, folder / "local.onnx", engine, (Shapes(1, 2, 4),))
        return engine.read_bytes()

    return plan


def has_code_for(mask: int, gpu: str) -> bool:
    later = capability(gpu) > capability(BITS[-1])
    bit = len(BITS) if later else BITS.index(gpu) if gpu in BITS else None
    return bit is not None and bool(mask >> bit & 1)


def test_the_default_target_has_all_bits_but_the_oldest(plan_for: PlanFor) -> None:
    assert plan_for("default")[MASK] == 0x7E


@pytest.mark.parametrize("target", TARGETS)
def test_engines_are_said_to_run_where_their_plan_has_code(plan_for: PlanFor, target: str) -> None:
    requirements = load_library("tensorrt_rtx").requirements(target, None)
    mask = plan_for(target)[MASK]
    assert {gpu: requirements.runs_on(gpu) for gpu in GPUS} == {gpu: has_code_for(mask, gpu) for gpu in GPUS}


@pytest.mark.parametrize("damage", [lambda plan: b"x" * len(plan), lambda plan: plan[:20], lambda plan: b""])
def test_the_library_says_itself_that_a_plan_is_none(plan_for: PlanFor, damage: Callable[[bytes], bytes]) -> None:
    library = load_library("tensorrt_rtx")
    runtime = library.trt.Runtime(library.logger)
    with pytest.raises(BackendError, match=r"cannot run local\.plan here: .*MALFORMED_ENGINE"):
        library.check_validity(runtime, damage(plan_for("default")), "local.plan")


def test_without_a_driver_the_question_is_left_open(plan_for: PlanFor) -> None:
    """The answer is then INVALID without a diagnosis: reading the plan says what is wrong."""
    from glass_rt.machine.cuda_driver import cuda_devices

    if cuda_devices():
        pytest.skip("this machine has a GPU")
    library = load_library("tensorrt_rtx")
    library.check_validity(library.trt.Runtime(library.logger), plan_for("default"), Path("local.plan").name)
