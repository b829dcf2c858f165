"""Where ONNX Runtime's operators run: what a provider cannot compute goes to the CPU, in silence.

A session's list of providers does not tell: a provider that takes no operator at all stands first in it. From 1.24 on
the library says of each operator which provider has it.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from glass_rt.errors import BackendError
from glass_rt.machine.device import Device

_RECORD = "session.record_ep_graph_assignment_info"
_TELLS = "get_provider_graph_assignment_info"
# Operators that describe arrays or move them, and compute nothing of the result. ONNX Runtime leaves those of shapes to
# the CPU on purpose; some providers do not read the pixels' bytes, and want them cast.
_COMPUTE_NOTHING = {"Shape", "Size", "Cast", "Concat", "Gather", "Slice", "Squeeze", "Unsqueeze"}

log = logging.getLogger("glass_rt")


def record_placement(ort: Any, options: Any, device: Device) -> None:
    """Has a session that is opened with `options` remember where its operators run, for `check_placement`.

    Raises BackendError where this version of the library cannot tell, unless the CPU may take part, or on CUDA, where
    a warning is logged.
    """
    if hasattr(ort.InferenceSession, _TELLS):
        options.add_session_config_entry(_RECORD, "1")
        return
    if device.cpu_too:
        return
    said = f"ONNX Runtime {ort.__version__} does not tell what it leaves to the CPU; 1.24 and later do"
    if device.kind != "cuda":
        raise BackendError(f"{said}: pip install --upgrade onnxruntime, or allow it: {allowing_cpu(device)}")
    log.warning("%s", said)


def check_placement(session: Any, provider: str, device: Device) -> None:
    """Raises BackendError where an opened session computes on another provider than `provider`.

    Where the CPU may take part, only where it computes everything.
    """
    if not hasattr(session, _TELLS):
        return
    placed = Counter(
        (part.ep_name == provider, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if node.op_type not in _COMPUTE_NOTHING
    )
    left = Counter({operator: count for (there, operator), count in placed.items() if not there})
    if not left:
        return
    computed = sum(placed.values())
    listed = ", ".join(f"{count} {operator}" for operator, count in left.most_common(6))
    said = f"{sum(left.values())} of {computed} operators are left to the CPU by {device} ({listed})"
    if sum(left.values()) == computed:
        raise BackendError(f"{said}: it computes nothing of this graph. Run it there: --device cpu")
    if not device.cpu_too:
        raise BackendError(f"{said}. Allow it: {allowing_cpu(device)}; or run all of it there: --device cpu")
    log.info("%s", said)


def allowing_cpu(device: Device) -> str:
    """The option that lets the CPU compute what the device cannot."""
    place, comma, options = str(device).partition(",")
    return f"--device {place}+cpu{comma}{options}"
