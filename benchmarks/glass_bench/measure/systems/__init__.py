"""What is measured: one system under test per kind of contender, opened in the process that measures it."""

from __future__ import annotations

from glass_bench.measure.contenders import Contender
from glass_bench.measure.systems.base import STAGES, Description, ImageResult, System


def open_system(contender: Contender) -> System:
    """Opens a contender here. Raises GlassError; PyTorch is imported only for its own contenders."""
    if contender.kind == "pytorch":
        from glass_bench.measure.systems.torch_pipeline import TorchSystem

        return TorchSystem(contender)
    from glass_bench.measure.systems.engine import EngineSystem

    return EngineSystem(contender)


__all__ = ["STAGES", "Description", "ImageResult", "System", "open_system"]
