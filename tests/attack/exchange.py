"""A process that exchanges parts of a bundle for others and back, until it is killed: `exchange.py THEME GOOD EVIL SEED`.

GOOD is the folder that is opened meanwhile, EVIL one whose files say something else. Every exchange is one rename, but
those of the theme `in_place`, which are writes into the very file.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

FILES = {
    "manifest": ("manifest.json",),
    "engine": ("global.onnx",),
    "head": ("head.safetensors",),
    "external_data": ("weights/global.data",),
    "all": ("manifest.json", "global.onnx", "head.safetensors", "weights/global.data"),
}


def renaming(good: Path, evil: Path, name: str) -> Callable[[bool], None]:
    """Puts the evil file, or the good one, in the good one's place by one rename."""
    originals = {turn: (evil if turn else good).with_suffix(".kept") / name for turn in (True, False)}
    for turn, folder in ((True, evil), (False, good)):
        originals[turn].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, originals[turn])
    spare = good.with_suffix(".spare")

    def exchange(turn: bool) -> None:
        os.link(originals[turn], spare)
        spare.replace(good / name)
        spare.unlink(missing_ok=True)  # a rename onto the same file does nothing

    return exchange


def writing(good: Path, evil: Path, name: str) -> Callable[[bool], None]:
    """Writes the evil file's bytes, or the good one's, into the file."""
    contents = {True: (evil / name).read_bytes(), False: (good / name).read_bytes()}
    descriptor = os.open(good / name, os.O_WRONLY)

    def exchange(turn: bool) -> None:
        os.pwrite(descriptor, contents[turn], 0)

    return exchange


def swapping(good: Path, evil: Path) -> Callable[[bool], None]:
    """Renames the folders."""
    away = good.with_suffix(".away")

    def exchange(turn: bool) -> None:
        good.rename(away)
        evil.rename(good)
        away.rename(evil)

    return exchange


def exchanges(theme: str, good: Path, evil: Path) -> list[Callable[[bool], None]]:
    """What is exchanged in turn."""
    if theme == "folder":
        return [swapping(good, evil)]
    if theme == "in_place":
        return [writing(good, evil, name) for name in FILES["all"] if name != "manifest.json"]
    return [renaming(good, evil, name) for name in FILES[theme]]


def main() -> None:
    """Exchanges for ever; a line on standard output says when it begins."""
    theme, good, evil, seed = sys.argv[1:]
    moves, chance = exchanges(theme, Path(good), Path(evil)), random.Random(int(seed))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        exchange = chance.choice(moves)
        for turn in (True, False):
            exchange(turn)
            until = time.perf_counter() + chance.choice((0, 1e-5, 1e-4, 1e-3))
            while time.perf_counter() < until:
                pass


if __name__ == "__main__":
    main()
