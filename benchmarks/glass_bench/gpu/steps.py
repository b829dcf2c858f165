"""The kit's list of steps, in their order: what is learnt soonest comes first, and each stands on those before it.

Steps 0 to 7 need PyTorch and the driver alone, 8 one of the libraries that run engines. Limits are several times what a
step took on an H100, so that only a step that hangs reaches its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from glass_bench.gpu.checks import Check
from glass_bench.gpu.expected import EXPECTED

HOUR, ENGINES = "glass_bench.gpu.hour", "glass_bench.gpu.engines"


@dataclass(frozen=True)
class Step:
    """A module, what its `main` is told, and the seconds it may take.

    `title` says for a reader what the step tries; `kind` is the name that its checks and its line in the manual's page
    on status go by.
    """

    name: str
    title: str
    module: str
    limit_s: float
    arguments: tuple[str, ...] = ()
    kind: str = ""

    @property
    def checks(self) -> tuple[Check, ...]:
        """What its figures must be."""
        return EXPECTED.get(self.kind or self.name, ())


STEPS = (
    Step("0 machine", "driver, card, copies over the bus, matrix products", f"{HOUR}.step0_machine", 40),
    Step(
        "1 seam",
        "the seam to CUDA: every call, order between streams, graphs, threads, a lost context",
        f"{HOUR}.step1_seam",
        60,
    ),
    Step("2 views", "the kernels for crops and resizing, against views made in memory", f"{HOUR}.step2_views", 75),
    Step("2 sanitizer", "the same kernels under compute-sanitizer", f"{HOUR}.step2_views", 130, ("sanitizer",)),
    Step(
        "3 backend",
        "the backend's lanes, batches and graphs, around a stand-in for engines",
        f"{HOUR}.step3_backend",
        90,
    ),
    Step(
        "3 refusals",
        "refused graphs, closing under way, threads that wait, around the stand-in",
        f"{HOUR}.step3_backend",
        40,
        ("refusals",),
    ),
    Step("4 precision", "FP16, bf16 and TF32 of the backbones, by PyTorch", f"{HOUR}.step4_precision", 100),
    Step("4 compiled", "the backbones by torch.compile", f"{HOUR}.step4_precision", 60, ("compiled",)),
    Step("5 exactness", "JPEGs decoded by nvImageCodec: levels", f"{HOUR}.step5_decode", 60, ("exactness",)),
    Step("5 drift", "the same: embeddings and logits", f"{HOUR}.step5_decode", 60, ("drift",)),
    Step("5 throughput", "the same: images per second", f"{HOUR}.step5_decode", 60, ("throughput",)),
    Step("5 damage", "the same: truncated and damaged files", f"{HOUR}.step5_decode", 30, ("damage",)),
    Step("6 decoders", "decoders on the host's cores", f"{HOUR}.step6_processor", 45, ("decoders",)),
    Step("6 pipeline", "the pipeline around engines that do nothing", f"{HOUR}.step6_processor", 60, ("pipelines",)),
    Step("6 scaling", "views in memory, by threads", f"{HOUR}.step6_processor", 60, ("scaling",)),
    Step("7 end to end", "files to verdicts, around the stand-in", f"{HOUR}.step7_end_to_end", 75),
)

# What a bundle's engines go through, with the seconds each may take; the riskiest comes last.
OF_ENGINES = (
    ("build", 240), ("parity", 60), ("ragged packs", 60), ("ragged verdicts", 120), ("latency", 60), ("parts", 60),
    ("soak", 120),
)  # fmt: skip
AFTER_ALL = ("views on the GPU", 120)


def steps_of_engines(backend: str, backbones: tuple[str, ...], folder: str, soak: int) -> tuple[Step, ...]:
    """Step 8 for the backend `tensorrt`, `tensorrt_rtx` or `onnxruntime` (on CUDA); bundles are written to `folder`.

    ONNX Runtime tells no times of parts, and reads views from memory.
    """

    def step(backbone: str, what: str, limit_s: float) -> Step:
        arguments = (what, backend, backbone, folder, str(soak))
        return Step(f"8 {backbone}: {what}", f"{backend}: {what}", ENGINES, limit_s, arguments, f"8 {what}")

    works = [(what, limit_s) for what, limit_s in OF_ENGINES if what != "parts" or backend != "onnxruntime"]
    steps = [step(backbone, *work) for backbone in backbones for work in works]
    if backend != "onnxruntime":
        steps += [step(backbone, *AFTER_ALL) for backbone in backbones]
    return tuple(steps)


NO_ENGINES = Step("8 engines", "engines of TensorRT, TensorRT for RTX or ONNX Runtime", ENGINES, 30, ("none",))
REFUSAL = Step("8 refusal", "what TensorRT for RTX says of a card that it does not run on", ENGINES, 120, ("refusal",))
