"""Step 4: what FP16 costs on the card, in embeddings, logits and time: tolerances, and an engine's ceiling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glass_bench.gpu.hour.device import is_real
from glass_bench.gpu.hour.measure import Spread, tflop_per_s, torch_ms
from glass_bench.gpu.hour.models import (
    DEVICE,
    Exact,
    distances_of,
    drift,
    embeddings,
    exact_model,
    half_graphs,
    local_embedder,
    with_fused_attention,
)
from glass_bench.gpu.hour.record import Record
from glass_bench.gpu.step import DRY_BACKBONE

BACKBONES = ("vit_b16", "resnet50", "convnext_tiny")
BATCHES = (11, 64, 256)
BATCH = 4  # of the reference views, as at export


def sums(*, half: bool, reduced: bool) -> None:
    """How matrix products of halves are summed: in half altogether, or only where cuBLAS splits a sum."""
    torch.backends.cuda.matmul.allow_fp16_accumulation = half
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = reduced


def on_card(graphs: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of them there."""
    return {role: copy.deepcopy(graph).to(DEVICE) for role, graph in graphs.items()}


def drifts(exact: Exact, graphs: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Distances to the CPU's float32 over the reference views, for each way of summing."""
    found: dict[str, Any] = {}
    card = on_card(graphs)
    for name, half, reduced in (
        ("float32 sums", False, False), ("float32 sums, split ones reduced in half", False, True),
        ("half sums", True, True),
    ):  # fmt: skip
        sums(half=half, reduced=reduced)
        found[name] = asdict(drift(exact, card, BATCH))
    sums(half=False, reduced=False)
    crops = exact.reference["crops"]
    one_by_one, together = (embeddings(card["local"], crops, batch) for batch in (1, len(crops)))
    found["one by one to together"] = float(distances_of(one_by_one, together).max())
    fused = {role: with_fused_attention(graph) for role, graph in card.items()}
    found["float32 sums, fused attention"] = asdict(drift(exact, fused, BATCH))
    return found


def float32_drift(exact: Exact) -> dict[str, Any]:
    """The float32 graphs on the card, with and without TF32: what is the card's own, and what is FP16's."""
    card, found = on_card(exact.graphs), {}
    for name, tf32 in (("float32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        found[name] = asdict(drift(exact, card, BATCH))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return found


def bfloat16_drift(exact: Exact) -> dict[str, Any]:
    """The bf16 graphs, for that precision's own tolerance."""
    graphs, wide = half_graphs(exact, "bf16")
    return {**asdict(drift(exact, on_card(graphs), BATCH)), "units_left_in_float32": wide}


def times(graph: nn.Module, batches: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds a batch, eager and as a CUDA graph; TFLOP/s of multiplications and additions that the view needs."""
    found: dict[str, Any] = {}
    torch.backends.cudnn.benchmark = True
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph(torch.zeros((1, 224, 224, 3), dtype=torch.uint8, device=DEVICE))
    flops = counter.get_total_flops()
    found["gflop_per_view"] = round(flops / 1e9, 2)
    for batch in batches:
        pixels = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8, device=DEVICE)
        with torch.no_grad():
            for name, work in (("eager", lambda: graph(pixels)), ("graph", replayed(graph, pixels))):  # noqa: B023
                took = torch_ms(work, 15 if DEVICE == "cuda" else 1, 3 if DEVICE == "cuda" else 0)
                found[f"{batch} views, {name}"] = timed(took, batch, flops)
    return found


def timed(took: Spread, batch: int, flops: float) -> dict[str, Any]:
    """A batch's time as rates."""
    rate = tflop_per_s(flops * batch, took.median)
    return {"ms": took, "views_per_s": round(batch / took.median * 1e3), "tflop_per_s": rate}


def replayed(graph: Callable[[Tensor], Any], pixels: Tensor) -> Callable[[], Any]:
    """The forward pass captured; where there is no GPU, the pass itself."""
    if DEVICE == "cpu":
        return lambda: graph(pixels)
    captured = torch.cuda.CUDAGraph()
    graph(pixels)
    torch.cuda.synchronize()
    with torch.cuda.graph(captured):
        graph(pixels)
    return captured.replay


def speeds(graph: nn.Module, name: str, batches: tuple[int, ...]) -> dict[str, Any]:
    """The project's graph; with the attention fused, or with channels last; with half sums."""
    card = copy.deepcopy(graph).to(DEVICE)
    found = {"as exported": times(card, batches)}
    sums(half=True, reduced=True)
    found["half sums"] = times(card, batches[1:2])
    sums(half=False, reduced=True)
    if name.startswith("vit"):
        found["fused attention"] = times(with_fused_attention(card), batches)
    else:
        found["channels last"] = times(card.to(memory_format=torch.channels_last), batches)
    sums(half=False, reduced=False)
    return found


def compiled(name: str, batch: int) -> dict[str, Any]:
    """torch.compile over the graph with fused attention: what a compiler's fusions add."""
    graph: Any = local_embedder(name)
    graph = with_fused_attention(graph) if name.startswith("vit") else graph.to(memory_format=torch.channels_last)
    pixels = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8, device=DEVICE)
    start = perf_counter()
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            graph(pixels[:1])
        work: Any = torch.compile(graph, backend="inductor" if is_real() else "eager")
        work(pixels)
        compile_s = perf_counter() - start
        found = timed(torch_ms(replayed(work, pixels), 10 if DEVICE == "cuda" else 1), batch, counter.get_total_flops())
    return {"compile_s": round(compile_s, 1), **found}


def main(output: str, scale: float, what: str = "drift") -> None:
    """Writes the step's figures to `output`."""
    record = Record(Path(output))
    sums(half=False, reduced=False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if what == "compiled":
        for name in BACKBONES if scale >= 1 else (DRY_BACKBONE,):
            record.part(name, lambda name=name: compiled(name, 256 if scale >= 1 else 2))  # type: ignore[misc]
        return
    for name in BACKBONES if scale >= 1 else (DRY_BACKBONE,):
        exact = record_quietly(record, f"{name}, made", lambda name=name: exact_model(name))  # type: ignore[misc]
        if exact is None:
            continue
        halves = record_quietly(record, f"{name}, narrowed", lambda exact=exact: half_graphs(exact, "fp16"))  # type: ignore[misc]
        if halves is None:
            continue
        graphs, wide = halves
        record.add(f"{name}, units left in float32", wide)
        record.part(f"{name}, drift", lambda exact=exact, graphs=graphs: drifts(exact, graphs))  # type: ignore[misc]
        batches = BATCHES if scale >= 1 else (2, 3)
        record.part(f"{name}, speed", lambda g=graphs, n=name, b=batches: speeds(g["local"], n, b))  # type: ignore[misc]
        record.part(f"{name}, float32", lambda exact=exact: float32_drift(exact))  # type: ignore[misc]
        record.part(f"{name}, bf16", lambda exact=exact: bfloat16_drift(exact))  # type: ignore[misc]


def record_quietly(record: Record, name: str, work: Callable[[], Any]) -> Any:
    """As `Record.part`, for what is too large to keep."""
    made: list[Any] = []
    record.part(name, lambda: made.append(work()))
    return made[0] if made else None
