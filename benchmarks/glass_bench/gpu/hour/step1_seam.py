"""Step 1: the seam. Every call of `GpuDriver`, order between streams, graphs, threads, and a lost context."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_bench.gpu.hour.device import is_real, open_device
from glass_bench.gpu.hour.measure import event_ms, host_ms, rate_per_s
from glass_bench.gpu.hour.record import Record
from glass_rt.backends.cuda.gpu import GpuDriver
from glass_rt.backends.cuda.view_kernels import ViewKernels
from glass_rt.errors import BackendError

SIZE = 224
CHILD_SECONDS = 25
LARGE = 64 << 20  # bytes: 1 ms over the bus, so that a copy is still under way when the next call is made


def refused(call: Callable[[], Any]) -> dict[str, Any]:
    """The error of a call that must fail."""
    try:
        call()
    except Exception as error:
        return {"error": type(error).__name__, "words": str(error), "lost": getattr(error, "lost", None)}
    return {"error": None, "words": "not refused"}


def calls() -> dict[str, Any]:
    """A kernel of views.fatbin on known numbers, and what is refused: in whose words."""
    gpu = open_device()
    with gpu.current():
        stream, kernels = gpu.create_stream(), ViewKernels(gpu)
        image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        boxes = np.array([[10, 20, SIZE, SIZE], [300, 200, 100, 100]], np.int32)
        found = gathered(gpu, kernels, stream, image, boxes)
        expected = np.zeros((2, SIZE, SIZE, 3), np.uint8)
        expected[0] = image[20 : 20 + SIZE, 10 : 10 + SIZE]
        expected[1, :100, :100] = image[200:300, 300:400]
        refusals = {
            "more memory than there is": refused(lambda: gpu.allocate(1 << 50)),
            "more pinned memory than there is": refused(lambda: gpu.allocate_pinned(1 << 50)) if is_real() else None,
            "no bytes": refused(lambda: gpu.allocate(0)),
            "a kernel that is not there": refused(lambda: gpu.load_kernel(_fatbin(), "no_such_kernel")),
            "no image of a kernel": refused(lambda: gpu.load_kernel(b"not a fatbin at all", "gather_crops")),
        }
        begin, end = gpu.create_event(timed=True), gpu.create_event(timed=True)
        refusals["time between events never recorded"] = refused(lambda: gpu.elapsed_ms(begin, end))
        still_right = gathered(gpu, kernels, stream, image, boxes)
    gpu.close()
    gpu.close()
    return {
        "kernel_right": bool((found == expected).all()),
        "right_after_refusals": bool((still_right == expected).all()),
        "refusals": refusals,
        "another_gpu": refused(lambda: open_device(99)),
    }


def gathered(
    gpu: GpuDriver, kernels: ViewKernels, stream: int, image: NDArray[Any], boxes: NDArray[Any]
) -> NDArray[Any]:
    """Crops cut on the device, (len(boxes), SIZE, SIZE, 3)."""
    nbytes = len(boxes) * SIZE * SIZE * 3
    source, table, out = gpu.allocate(image.nbytes), gpu.allocate(boxes.nbytes), gpu.allocate(nbytes)
    pinned = gpu.allocate_pinned(max(nbytes, image.nbytes))
    pinned.array[: image.nbytes] = image.reshape(-1)
    gpu.copy_in(source.address, pinned.array[: image.nbytes], stream)
    gpu.copy_in(table.address, boxes.reshape(-1).view(np.uint8), stream)
    kernels.crops(source, image.shape[1], table, len(boxes), SIZE, out.address, stream)
    gpu.synchronize(stream)
    gpu.copy_out(pinned.array[:nbytes], out.address, stream)
    gpu.synchronize(stream)
    found: NDArray[Any] = pinned.array[:nbytes].reshape(len(boxes), SIZE, SIZE, 3).copy()
    for buffer in (source, table, out, pinned):
        gpu.free(buffer)
    return found


def order(scale: float) -> dict[str, Any]:
    """Copies in, within and out on three streams. With events all is right; without, some must be stale."""
    gpu = open_device()
    nbytes, rounds = int(LARGE * max(scale, 0.01)), max(4, int(40 * scale))
    wrong = {True: 0, False: 0}
    with gpu.current():
        streams = [gpu.create_stream() for _ in range(3)]
        arrived, moved = gpu.create_event(), gpu.create_event()
        first, second = gpu.allocate(nbytes), gpu.allocate(nbytes)
        into, out = gpu.allocate_pinned(nbytes), gpu.allocate_pinned(nbytes)
        for ordered in (True, False):
            for number in range(rounds):
                into.array[:] = number + 1 + 100 * ordered
                gpu.copy_in(first.address, into.array, streams[0])
                gpu.record(arrived, streams[0])
                if ordered:
                    gpu.wait(streams[1], arrived)
                gpu.copy_within(second.address, first.address, nbytes, streams[1])
                gpu.record(moved, streams[1])
                if ordered:
                    gpu.wait(streams[2], moved)
                gpu.copy_out(out.array, second.address, streams[2])
                gpu.synchronize(streams[2])
                wrong[ordered] += int(not (out.array == number + 1 + 100 * ordered).all())
                for stream in streams:
                    gpu.synchronize(stream)
    gpu.close()
    return {"rounds": rounds, "wrong_with_events": wrong[True], "wrong_without_events": wrong[False]}


def graph(scale: float) -> dict[str, Any]:
    """Copies and a kernel, captured and replayed 1000 times, beside the same calls one by one."""
    gpu = open_device()
    with gpu.current():
        stream, kernels = gpu.create_stream(), ViewKernels(gpu)
        image = np.random.default_rng(1).integers(0, 256, (600, 800, 3), dtype=np.uint8)
        boxes = np.array([[100, 200, SIZE, SIZE]], np.int32)
        source, table, out = gpu.allocate(image.nbytes), gpu.allocate(16), gpu.allocate(SIZE * SIZE * 3)
        into, places, back = (
            gpu.allocate_pinned(image.nbytes),
            gpu.allocate_pinned(16),
            gpu.allocate_pinned(SIZE * SIZE * 3),
        )
        places.array[:] = boxes.reshape(-1).view(np.uint8)

        def work() -> None:
            gpu.copy_in(source.address, into.array, stream)
            gpu.copy_in(table.address, places.array, stream)
            kernels.crops(source, 800, table, 1, SIZE, out.address, stream)
            gpu.copy_out(back.array, out.address, stream)

        captured = gpu.capture(stream, work)
        gpu.launch_graph(captured, stream)
        gpu.synchronize(stream)
        free_before, right, times = gpu.memory()[0], 0, max(10, int(1000 * scale))
        for number in range(times):
            into.array[:] = np.roll(image, number, axis=1).reshape(-1) if number % 50 == 0 else into.array
            if number % 50 == 0:
                back.array[:] = 0
            gpu.launch_graph(captured, stream)
            if number % 50 == 0:
                gpu.synchronize(stream)
                expected = np.roll(image, number, axis=1)[200 : 200 + SIZE, 100 : 100 + SIZE]
                right += int((back.array.reshape(SIZE, SIZE, 3) == expected).all())
        gpu.synchronize(stream)
        free_after = gpu.memory()[0]
        found = {
            "replays": times, "checked": -(-times // 50), "right": right, "lost_bytes": free_before - free_after,
            "replay_ms": event_ms(gpu, stream, lambda: gpu.launch_graph(captured, stream), 50),
            "one_by_one_ms": event_ms(gpu, stream, work, 50),
        }  # fmt: skip
        gpu.destroy_graph(captured)
    gpu.close()
    return found


def refused_capture() -> dict[str, Any]:
    """A call that captures forbid, and whether the stream and a new capture work afterwards."""
    gpu = open_device()
    with gpu.current():
        stream, buffer = gpu.create_stream(), gpu.allocate(1 << 16)
        pinned = gpu.allocate_pinned(1 << 16)

        def put() -> None:
            gpu.copy_in(buffer.address, pinned.array, stream)

        def captured_then(call: Callable[[], Any]) -> dict[str, Any]:

            def both() -> None:
                put()
                call()

            def put_and_wait() -> None:
                put()
                gpu.synchronize(stream)

            words = refused(lambda: gpu.capture(stream, both))
            after = refused(put_and_wait)
            again = refused(lambda: gpu.destroy_graph(gpu.capture(stream, put)))
            return {"capture": words, "stream_afterwards": after["words"], "capture_afterwards": again["words"]}

        found = {
            "synchronize": captured_then(lambda: gpu.synchronize(stream)),
            "allocate": captured_then(lambda: gpu.allocate(1 << 20)),
            "allocate_pinned": captured_then(lambda: gpu.allocate_pinned(1 << 20)),
            "memory": captured_then(lambda: gpu.memory()),
            "our own error": captured_then(lambda: (_ for _ in ()).throw(BackendError("refused"))),
        }
    gpu.close()
    return found


def capture_beside_others(scale: float) -> dict[str, Any]:
    """Captures on one thread while eight others allocate, copy, wait and free: must all succeed (thread-local mode)."""
    gpu, stop, errors = open_device(), threading.Event(), list[str]()
    rounds = [0] * 8

    def busy(index: int) -> None:
        try:
            with gpu.current():
                stream = gpu.create_stream()
                while not stop.is_set():
                    device, pinned = gpu.allocate(1 << 20), gpu.allocate_pinned(1 << 16)
                    gpu.copy_in(device.address, pinned.array, stream)
                    gpu.synchronize(stream)
                    gpu.free(device)
                    gpu.free(pinned)
                    rounds[index] += 1
                gpu.destroy_stream(stream)
        except Exception as error:
            errors.append(str(error))

    threads = [threading.Thread(target=busy, args=(index,)) for index in range(8 if is_real() else 0)]
    for thread in threads:
        thread.start()
    captures = 0
    try:
        with gpu.current():
            stream, buffer = gpu.create_stream(), gpu.allocate(1 << 20)
            pinned = gpu.allocate_pinned(1 << 20)
            until = perf_counter() + 2 * scale
            while perf_counter() < until:
                made = gpu.capture(stream, lambda: gpu.copy_in(buffer.address, pinned.array, stream))
                gpu.launch_graph(made, stream)
                gpu.synchronize(stream)
                gpu.destroy_graph(made)
                captures += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    gpu.close()
    return {"captures": captures, "rounds_of_others": sum(rounds), "errors": errors}


def threads(scale: float) -> dict[str, Any]:
    """Sixteen threads that make the context current, copy and check; what one such round costs; who holds the GIL."""
    gpu, wrong = open_device(), [0]
    state = threading.local()
    count = 16 if is_real() else 1

    def work(thread: int) -> None:
        with gpu.current():
            if not hasattr(state, "stream"):
                state.stream = gpu.create_stream()
                state.device, state.pinned = gpu.allocate(1 << 16), gpu.allocate_pinned(1 << 16)
                state.back = gpu.allocate_pinned(1 << 16)
            state.pinned.array[:] = thread + 1
            gpu.copy_in(state.device.address, state.pinned.array, state.stream)
            gpu.copy_out(state.back.array, state.device.address, state.stream)
            gpu.synchronize(state.stream)
            wrong[0] += int(not (state.back.array == thread + 1).all())

    def pushed() -> None:
        for _ in range(1000):
            with gpu.current():
                pass

    found = {
        "rounds_per_s_1_thread": rate_per_s(work, 1, 0.5 * scale),
        "rounds_per_s_16_threads": rate_per_s(work, count, 1.0 * scale),
        "push_and_pop_us": host_ms(pushed, 5),
        "wrong": wrong[0],
    }
    gpu.close()
    return found


def waiting(scale: float) -> dict[str, Any]:
    """Processor time of a thread that waits for the device, and what other threads still do."""
    gpu = open_device()
    nbytes = int(1e9 * max(scale, 0.01))
    with gpu.current():
        stream, event, pinned = gpu.create_stream(), gpu.create_event(), gpu.allocate_pinned(nbytes)
        device = gpu.allocate(nbytes)
        counted, stop = [0], threading.Event()

        def count() -> None:
            while not stop.is_set():
                counted[0] += 1

        def put() -> None:
            for _ in range(4):
                gpu.copy_in(device.address, pinned.array, stream)
            gpu.record(event, stream)

        put()
        gpu.synchronize_event(event)
        counter = threading.Thread(target=count)
        counter.start()
        start, before = perf_counter(), counted[0]
        while perf_counter() - start < 0.1:
            threading.Event().wait(0.01)
        idle_rate = (counted[0] - before) / (perf_counter() - start)
        put()
        start, before, own = perf_counter(), counted[0], thread_time()
        gpu.synchronize_event(event)
        wall_s, cpu_s = perf_counter() - start, thread_time() - own
        waiting_rate = (counted[0] - before) / wall_s
        stop.set()
        counter.join()
        found: dict[str, Any] = {
            "waited_ms": wall_s * 1e3, "processor_share_of_the_waiting_thread": cpu_s / wall_s,
            "counting_rate_while_waiting_to_idle": waiting_rate / idle_rate,
        }  # fmt: skip
        if is_real():
            found["processor_share_with_blocking_events"] = _blocking_share(gpu, stream, put)
    gpu.close()
    return found


def _blocking_share(gpu: GpuDriver, stream: int, put: Callable[[], None]) -> float:
    from cuda.bindings import driver

    flags = driver.CUevent_flags
    _, event = driver.cuEventCreate(flags.CU_EVENT_BLOCKING_SYNC | flags.CU_EVENT_DISABLE_TIMING)
    put()
    gpu.record(int(event), stream)
    start, own = perf_counter(), thread_time()
    gpu.synchronize_event(int(event))
    share = (thread_time() - own) / (perf_counter() - start)
    driver.cuEventDestroy(event)
    return share


LOST = """
import sys
import numpy as np
from glass_bench.gpu.hour.step1_seam import refused
from glass_bench.gpu.hour.device import open_device
from glass_rt.backends.cuda.view_kernels import ViewKernels
import json

gpu = open_device()
found = {}
with gpu.current():
    stream, event, kernels = gpu.create_stream(), gpu.create_event(), ViewKernels(gpu)
    out, boxes = gpu.allocate(224 * 224 * 3), gpu.allocate(16)
    pinned = gpu.allocate_pinned(16)
    pinned.array[:] = np.array([0, 0, 224, 224], np.int32).view(np.uint8)
    gpu.copy_in(boxes.address, pinned.array, stream)
    bad = type(out)(0x7000_0000_0000, 1 << 20)
    kernels.crops(bad, 4000, boxes, 1, 224, out.address, stream)
    gpu.record(event, stream)
    found["synchronize"] = refused(lambda: gpu.synchronize(stream))
    found["synchronize_event"] = refused(lambda: gpu.synchronize_event(event))
    found["allocate"] = refused(lambda: gpu.allocate(64))
    found["free"] = refused(lambda: gpu.free(out))
    found["free pinned"] = refused(lambda: gpu.free(pinned))
    found["memory"] = refused(lambda: gpu.memory())
    found["destroy_event"] = refused(lambda: gpu.destroy_event(event))
    found["destroy_stream"] = refused(lambda: gpu.destroy_stream(stream))
found["current"] = refused(lambda: gpu.current().__enter__())
found["close"] = refused(gpu.close)
found["another one in this process"] = refused(lambda: open_device().close())
print(json.dumps(found))
"""
VIEWS_LOST = """
import json
import numpy as np
from glass_bench.gpu.hour.step1_seam import refused
from glass_bench.gpu.hour.device import open_device
from glass_rt.backends.cuda.device_views import DeviceViews
from glass_rt.image.sampling import Box

views = DeviceViews(open_device())
wholes, crops = views.empty((1, 224, 224, 3), np.float32), views.empty((1, 224, 224, 3), np.uint8)
outside = (Box(2_000_000_000, 0, 224, 224),)
pixels = np.zeros((300, 300, 3), np.uint8)
found = {"write": refused(lambda: views.write(pixels, outside, wholes[0], crops))}
found["next write"] = refused(lambda: views.write(pixels, (), wholes[0], crops))
found["close"] = refused(views.close)
print(json.dumps(found))
"""
OPENING = """
import json
from glass_bench.gpu.hour.device import open_device
from glass_bench.gpu.hour.step1_seam import refused
print(json.dumps(refused(open_device)["words"]))
"""


def child(script: str, **environment: str) -> Any:
    """What a process of its own printed, in JSON; it may lose its context. Raises RuntimeError where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        timeout=CHILD_SECONDS if is_real() else None, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        return json.loads(done.stdout)  # how it ends after that is the driver's affair
    except ValueError:
        raise RuntimeError(f"its process ended with {done.returncode}: {done.stderr.strip()[-500:]}") from None


def _fatbin() -> bytes:
    import glass_rt.backends.cuda

    return (Path(str(glass_rt.backends.cuda.__file__)).parent / "kernels" / "views.fatbin").read_bytes()


def main(output: str, scale: float) -> None:
    """Writes the step's figures to `output`."""
    record = Record(Path(output))
    record.part("calls", calls)
    record.part("order_between_streams", lambda: order(scale))
    record.part("graph", lambda: graph(scale))
    record.part("refused_capture", refused_capture)
    record.part("capture_beside_others", lambda: capture_beside_others(scale))
    record.part("threads", lambda: threads(scale))
    record.part("waiting", lambda: waiting(scale))
    record.part("lost_context", lambda: child(LOST))
    record.part("lost_context_in_views", lambda: child(VIEWS_LOST))
    record.part("no_visible_gpu", lambda: child(OPENING, CUDA_VISIBLE_DEVICES="-1"))
