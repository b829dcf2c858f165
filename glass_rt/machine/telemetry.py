"""What libraries would report to their makers: nothing, unless the user asks for it.

ONNX Runtime (from 1.29 on) keeps a device's identifier under the user's cache folder and looks up its maker's host
again and again; it heeds a variable that stands before it is imported, and its own call comes too late. OpenVINO and
NNCF report through the package `openvino_telemetry`, and do without where that cannot be imported. The client of
Hugging Face's hub, by which timm downloads weights, heeds a variable too.
"""

from __future__ import annotations

import os
import sys
from typing import Any

ALLOWED_BY = "GLASS_RT_TELEMETRY"
_OFF = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_REPORTER = "openvino_telemetry"


def telemetry_allowed() -> bool:
    """Whether the user lets libraries report: `GLASS_RT_TELEMETRY=1`. They do then as they are set up themselves."""
    return os.environ.get(ALLOWED_BY) == "1"


def keep_silent() -> None:
    """Keeps libraries that are imported from now on from reporting, here and in processes that are started from here.

    To be called before the first of them is imported; one that the caller's program has imported before goes on as it
    was set up.
    """
    if telemetry_allowed():
        return
    os.environ.update(_OFF)
    modules: dict[str, Any] = sys.modules
    modules.setdefault(_REPORTER, None)  # which makes importing it fail
