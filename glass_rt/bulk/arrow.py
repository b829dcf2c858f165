"""pyarrow, or the command that installs it."""

from __future__ import annotations

from glass_rt.errors import MissingDependency

try:
    import pyarrow
    import pyarrow.compute
    import pyarrow.fs
    import pyarrow.parquet
except ImportError:
    raise MissingDependency("pyarrow", "ray", "a bulk job") from None

pa = pyarrow
pc = pyarrow.compute
fs = pyarrow.fs
pq = pyarrow.parquet

__all__ = ["fs", "pa", "pc", "pq"]
