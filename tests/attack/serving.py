"""A server under attack: requests made at random from a seed, and what must hold beside them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np

from tests.serving import Process, wait_until

TRIALS = int(os.environ.get("GLASS_RT_ATTACK_TRIALS", "150"))
SEED = 606


def good_picture() -> bytes:
    """A small PNG, which is judged in milliseconds."""
    done, encoded = cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))
    assert done
    return encoded.tobytes()


@dataclass
class Bystander:
    """A good client that asks again and again beside an attack."""

    answered: int = 0
    refused: list[object] = field(default_factory=list)


@contextmanager
def bystander(ask: Callable[[], object], good: object) -> Iterator[Bystander]:
    """Asks while the block runs; what is not `good` is noted."""
    client, stopped = Bystander(), threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                answer = ask()
            except Exception as error:
                answer = error
            if answer == good:
                client.answered += 1
            else:
                client.refused.append(answer)
            stopped.wait(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield client
    finally:
        stopped.set()
        thread.join(60)


def check_unharmed(server: Process, peak_before: int, most: int) -> None:
    """The server runs, holds nothing, has taken at most `most` bytes more than before, and has logged no traceback."""
    wait_until(lambda: server.figure("glass_rt_requests_open") == 0)
    assert server.figure("glass_rt_queue_bytes") == server.figure("glass_rt_queue_images") == 0
    assert server.get("/readyz").status == 200
    assert server.process.poll() is None
    assert server.peak_bytes() - peak_before < most
    assert "raceback" not in server.text()
