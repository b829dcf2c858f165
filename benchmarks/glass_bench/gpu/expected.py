"""What the figures of every step of the kit must be: one table, by the name of the step."""

from __future__ import annotations

from glass_bench.gpu.checks import (
    ALL_NOT_REFUSED,
    EMPTY,
    FALSE,
    FINE,
    LOST,
    NOT_REFUSED,
    POSITIVE,
    TRUE,
    ZERO,
    Check,
    Rule,
    at_most,
    at_most_given,
    equal,
    text,
)  # fmt: skip
from glass_rt.inference.parity import TOLERANCES

FP16, BF16 = TOLERANCES["fp16"], TOLERANCES["bf16"]
ALONE_OR_TOGETHER = at_most(2 * FP16.embedding)  # relative L2: the same view in two batches, each that far from PyTorch
NOT_LEAKED = Rule("at most 16 MiB", lambda nbytes: nbytes <= 16 << 20, 1 << 30)  # less than 0: memory came back
# Levels of 255 by which nvImageCodec's own tests let its decoders on GPUs differ from OpenCV (test/python/utils.py).
DECODERS = {"CPU": at_most(0), "HW": at_most(1), "HYBRID": at_most(6)}
FAILS_AND_STAYS_FAILED = Rule(
    "a run that is right, and then runs that fail", lambda runs: runs[0] == "not refused" != runs[-1], ["not refused"]
)

# Steps for every backbone are named after what they do, such as `8 parity` for `8 vit_b16: parity`.
EXPECTED: dict[str, tuple[Check, ...]] = {
    "0 machine": (
        Check(("opened", "name"), text(r"\w")),
        Check(("opened", "compute_capability"), text(r"^\d+\.\d+$")),
        Check(("opened", "free_mb"), POSITIVE),
        Check(("opened",), at_most_given("free_mb", "total_mb")),
        Check(("transfers", "*", "*_gb_per_s"), POSITIVE),
        Check(("peaks", "*_tflop_per_s"), POSITIVE),
    ),
    "1 seam": (
        Check(("calls", "kernel_right"), TRUE),
        Check(("calls", "right_after_refusals"), TRUE),
        Check(("order_between_streams", "wrong_with_events"), ZERO),
        Check(("order_between_streams", "wrong_without_events"), POSITIVE),  # else the line above cannot fail
        Check(("graph",), equal("right", "checked")),
        Check(("graph", "lost_bytes"), NOT_LEAKED),
        Check(("refused_capture", "*", "stream_afterwards"), NOT_REFUSED),
        Check(("refused_capture", "*", "capture_afterwards"), NOT_REFUSED),
        Check(("capture_beside_others", "captures"), POSITIVE),
        Check(("capture_beside_others", "errors"), EMPTY),
        Check(("threads", "wrong"), ZERO),
        Check(("threads", "rounds_per_s_*"), POSITIVE),
        Check(("waiting", "processor_share_with_blocking_events"), at_most(0.5), optional=True),
        *(Check(("lost_context", call), LOST) for call in ("synchronize", "synchronize_event", "allocate", "memory")),
        Check(("lost_context", "close"), FINE),
        Check(("lost_context_in_views", "*write"), LOST),
        Check(("lost_context_in_views", "close"), FINE),
        Check(("no_visible_gpu",), text("NO_DEVICE")),
    ),
    "2 views": (
        Check(("compared", "*", "crop_bytes_that_differ"), ZERO),
        Check(("compared", "*", "gathered_bytes_that_differ"), ZERO),
        Check(("compared", "*", "global_view_max_levels"), at_most(0.01)),
        Check(("kernel_times", "*", "*_ms", "median"), POSITIVE),
        Check(("throughput", "*images_per_s"), POSITIVE),
    ),
    "2 sanitizer": (
        Check(("*check", "ended"), ZERO),
        Check(("*check", "summary"), text("SUMMARY: 0 ")),
    ),
    "3 backend": (
        Check(("equal_rows_*", "[0-9]*", "largest_distance_to_torch"), at_most(1e-5)),
        Check(("equal_rows_*", "[0-9]*", "first_row_to_itself_alone"), ALONE_OR_TOGETHER),
        Check(("equal_rows_*", "graphs"), POSITIVE),
        Check(("device_arrays", "that_differ"), ZERO),
        Check(("soak", "wrong"), ZERO),
        Check(("soak", "device_bytes_lost"), NOT_LEAKED),
        Check(("submitting", "packs_of_*_per_s"), POSITIVE),
        Check(("capture_beside_views", "errors"), EMPTY),
        Check(("capture_beside_views", "results_that_changed"), ZERO),
        Check(("speed", "views_per_s"), POSITIVE),
        Check(("lost_context", "runs"), FAILS_AND_STAYS_FAILED),
        Check(("lost_context", "close"), NOT_REFUSED),
    ),
    "3 refusals": (
        Check(("refused_captures", "*", "six runs"), ALL_NOT_REFUSED),
        Check(("refused_captures", "*", "close"), NOT_REFUSED),
        Check(("refused_captures", "*", "an engine opened afterwards"), NOT_REFUSED),
        Check(("closing", "close"), FINE),
        Check(("blocking_events", "*", "packs_per_s"), POSITIVE),
    ),
    "4 precision": (
        Check(("*, drift", "float32 sums", "embedding_worst"), at_most(FP16.embedding)),
        Check(("*, drift", "float32 sums", "logits_worst"), at_most(FP16.logits)),
        Check(("*, bf16", "embedding_worst"), at_most(BF16.embedding)),
        Check(("*, float32", "float32", "embedding_worst"), at_most(TOLERANCES["fp32"].embedding)),
        Check(("*, speed", "*", "*", "views_per_s"), POSITIVE),
    ),
    "4 compiled": (Check(("*", "views_per_s"), POSITIVE),),
    "5 exactness": tuple(
        Check((f"levels, {name}", "*", "max_levels"), rule, optional=name != "CPU") for name, rule in DECODERS.items()
    ),
    "5 drift": (
        Check(("odd sizes", "*", "max_levels"), DECODERS["HW"]),
        Check(("embedding drift", "*, CPU", "embedding_worst"), ZERO),
        Check(("embedding drift", "*, HW", "embedding_worst"), at_most(FP16.embedding), optional=True),
        Check(("embedding drift", "*", "probability_worst"), at_most(FP16.logits)),
    ),
    "5 throughput": (Check(("* MP, *", "batch *", "images_per_s"), POSITIVE),),
    "5 damage": (
        Check(("CPU", "good", "max_levels"), ZERO),
        Check(("CPU", "cut at *", "decoded"), FALSE),
        Check(("*", "no image", "decoded"), FALSE, optional=True),
    ),
    "6 decoders": (
        Check(("decoders", "*, equal pixels"), TRUE, optional=True),  # simplejpeg is an extra
        Check(("decoders", "*images_per_s"), POSITIVE),
    ),
    "6 pipeline": (
        Check(("parts", "*", "*_ms", "median"), POSITIVE),
        Check(("pipeline, *", "images_per_s"), POSITIVE),
        Check(("pipeline, *", "judging_share_of_the_time"), at_most(1.05)),
    ),
    "6 scaling": (
        Check(("*", "[0-9]*"), POSITIVE),
        Check(("*processes of one thread, sum",), POSITIVE),
    ),
    "7 end to end": (
        Check(("same verdicts", "largest difference of P(fake)"), at_most(1e-3)),
        Check(("*, views *", "images_per_s"), POSITIVE),
        Check(("*, one by itself", "*_ms"), POSITIVE),
    ),
    "8 refusal": (
        Check(("refusal", "ours"), text(r"SM \d")),
        Check(("refusal", "the library's"), text("UNSUPPORTED_CC|compute capability")),
    ),
    "8 build": (Check(("build", "parity", "status"), text("^passed$")),),
    "8 parity": (
        Check(("parity", "status"), text("^passed$")),
        Check(("parity",), at_most_given("embedding", "embedding_tolerance")),
        Check(("parity",), at_most_given("logits", "logits_tolerance")),
    ),
    "8 ragged packs": (Check(("ragged packs", "worst relative distance by pack", "*"), ALONE_OR_TOGETHER),),
    "8 ragged verdicts": (Check(("ragged verdicts",), at_most_given("largest difference", "allowed")),),
    "8 views on the GPU": (Check(("views on the GPU",), at_most_given("largest difference", "allowed")),),
    "8 latency": (
        Check(("latency", "by crops", "*", "*_ms", "median"), POSITIVE),
        Check(("latency", "crops per second, full packs"), POSITIVE),
    ),
    "8 parts": (Check(("parts", "by crops", "*", "*", "*"), at_most(1e4)),),
    "8 soak": (
        Check(("soak", "runs"), POSITIVE),
        Check(("soak", "bytes not given back"), NOT_LEAKED),
    ),
}
