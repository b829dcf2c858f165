"""What can go wrong in the harness itself, beside the runtime's own errors."""

from __future__ import annotations

from glass_rt.errors import GlassError


class BenchError(GlassError, RuntimeError):
    """A measurement that cannot be made, or a record that cannot be read."""

    kind = "bench"


class ContenderFailed(BenchError):
    """A contender's process died, or it could not be opened; the message begins with its name."""

    kind = "contender"
