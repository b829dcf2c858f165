"""NumPy's BLAS has one thread while somebody judges, and its own number before and after."""

import threading

import numpy as np  # noqa: F401 - loads the library that is counted
from threadpoolctl import ThreadpoolController, threadpool_limits

from glass_rt.machine.blas import single_threaded_blas


def threads() -> list[int]:
    return [library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == "blas"]


def test_the_threads_come_back_whoever_leaves_first() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        assert set(before) == {2}
        entered, leave = threading.Event(), threading.Event()

        def other() -> None:
            with single_threaded_blas():
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with single_threaded_blas():
            assert set(threads()) == {1}
            thread.start()
            entered.wait(10)
            assert set(threads()) == {1}
        leave.set()
        thread.join()
        assert threads() == before
