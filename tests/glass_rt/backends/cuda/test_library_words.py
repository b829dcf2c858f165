"""Descriptor 2 is what it was before, whichever other thread listens meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading

import pytest

from glass_rt.backends.cuda.library_words import library_words


def test_two_threads_that_listen_leave_stderr_where_it_was() -> None:
    """One begins while the other listens, and ends after it."""
    before, inside, began, heard = os.fstat(2), threading.Event(), threading.Event(), list[str]()

    def listen_first() -> None:
        with library_words(heard):
            inside.set()
            began.wait(0.2)  # where the second may listen beside it
            os.write(2, b"first\n")

    def listen_second() -> None:
        inside.wait(10)
        with library_words(heard):
            began.set()
            first.join(10)
            os.write(2, b"second\n")

    first, second = threading.Thread(target=listen_first), threading.Thread(target=listen_second)
    for thread in (first, second):
        thread.start()
    for thread in (first, second):
        thread.join(20)
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
    assert heard == ["first", "second"]


def test_one_listener_inside_of_another_hears_its_own() -> None:
    outer, inner = list[str](), list[str]()
    with library_words(outer):
        os.write(2, b"before\n")
        with library_words(inner):
            os.write(2, b"inside\n")
        os.write(2, b"after\n")
    assert (outer, inner) == (["before", "after"], ["inside"])


def test_without_a_folder_for_files_nothing_is_heard_and_all_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", nowhere)
    words: list[str] = []
    with library_words(words):
        os.write(2, b"")
    assert words == []


def test_without_a_descriptor_2_all_goes_on() -> None:
    code = (
        "import os; os.close(2)\n"
        "from glass_rt.backends.cuda.library_words import library_words\n"
        "words = []\n"
        "with library_words(words): print('inside')\n"
        "print(words)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout.split() == ["inside", "[]"]
