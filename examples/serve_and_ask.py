"""Starts a server, posts images to it and stops it: `python serve_and_ask.py BUNDLE IMAGE...`."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen


@contextmanager
def server(bundle: str) -> Iterator[str]:
    """Runs `glass-rt serve` on a free port and gives its URL, which a line of its log says."""
    command = [sys.executable, "-m", "glass_rt", "serve", "--engine", bundle, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = next(found["url"] for found in map(json.loads, process.stderr) if "url" in found)
            wait_until_ready(url)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()  # until the server has finished its requests


def wait_until_ready(url: str) -> None:
    """Returns once the server takes requests; raises URLError where it does not within 10 seconds."""
    for attempt in range(100):
        try:
            with urlopen(f"{url}/readyz"):
                return
        except URLError:  # no connection yet, or 503
            if attempt == 99:
                raise
            time.sleep(0.1)


def ask(url: str, image: bytes) -> dict[str, object]:
    """The verdict, or the object that says why there is none."""
    try:
        with urlopen(Request(f"{url}/v1/verdict", data=image)) as response:
            answer: dict[str, object] = json.load(response)
    except HTTPError as error:
        answer = json.load(error)
    return answer


if __name__ == "__main__":
    with server(sys.argv[1]) as url:
        for path in sys.argv[2:]:
            answer = ask(url, Path(path).read_bytes())
            print(path, answer.get("probability_fake", answer.get("error")))
