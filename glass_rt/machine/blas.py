"""NumPy's matrix products on one thread while images are judged.

Views and heads are products far too small to share out, and they run beside engines and decoders that keep the cores
busy: a second BLAS thread waits for a core, spinning, and the product with it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


def single_threaded_blas() -> AbstractContextManager[object]:
    """Holds the process's BLAS to one thread; it gets its threads back when the block is left.

    To be entered and left on the same thread. Of blocks on several threads at once only the first has an effect, for
    as long as it lasts: OpenBLAS has one setting per process, and threadpoolctl gives it one owner.
    """
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


@cache
def _controller() -> ThreadpoolController:
    """The BLAS libraries that are loaded; NumPy's is, wherever there are images."""
    return ThreadpoolController()
