"""pyarrow, or the command that installs it."""

from __future__ import annotations

from glass_rt.errors import MissingDependency

try:
    import pyarrow
    import pyarrow.compute
    import pyarrow.dataset
    import pyarrow.fs
    import pyarrow.parquet
except ImportError:
    raise MissingDependency("pyarrow", "ray", "a bulk job") from None

pa = pyarrow
pc = pyarrow.compute
ds = pyarrow.dataset
fs = pyarrow.fs
pq = pyarrow.parquet

__all__ = ["ds", "fs", "pa", "pc", "pq"]
