"""What lies below a folder, links to other folders included, each folder once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(
    folder: str, note: Callable[[OSError], None] = lambda _: None, *, hidden: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `folder` down, with the sorted names of what is no folder in it, in the order of their names.

    Links to folders are followed, and no folder comes twice: a link to a folder that is below `folder`, or to one
    that another link has led to, is passed over, so that circles end. `hidden`: also folders whose names begin with a
    dot. `note` is told of folders that cannot be read.
    """
    tree = _Tree(os.path.realpath(folder), hidden)
    waiting = [(folder, tree.root)]
    while waiting:
        where, real = waiting.pop()
        try:
            with os.scandir(where) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            note(error)
            continue
        below, names = [], []
        for entry in found:
            if not _is_folder(entry):
                names.append(entry.name)
            elif hidden or not entry.name.startswith("."):
                target = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)  # noqa: PTH118
                if tree.enter(target, by_its_name=not entry.is_symlink() and tree.shows(real)):
                    below.append((entry.path, target))
        yield where, names
        waiting += reversed(below)


class _Tree:
    """Which folders have been entered, by their names without links."""

    def __init__(self, root: str, hidden: bool) -> None:
        self.root = root
        self._hidden = hidden
        self._entered: set[str] = set()  # of those that only links lead to

    def shows(self, real: str) -> bool:
        """Whether a folder comes up in the tree without any link."""
        if real != self.root and not real.startswith(self.root.rstrip(os.sep) + os.sep):
            return False
        return self._hidden or not any(part.startswith(".") for part in Path(real).relative_to(self.root).parts)

    def enter(self, real: str, *, by_its_name: bool) -> bool:
        """Whether to go into a folder, which must not have been entered and must not come up in another place."""
        if by_its_name:
            return True
        if self.shows(real) or real in self._entered:
            return False
        self._entered.add(real)
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
