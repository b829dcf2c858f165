"""One job at a time writes into a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from glass_rt.bulk.plan import FOLDER
from glass_rt.bulk.stores import LOCAL, Location
from glass_rt.errors import GlassError, UsageError
from glass_rt.machine.one_writer import Taken, in_use, locked_file


@contextmanager
def only_job_in(target: Location) -> Iterator[None]:
    """Makes this process the only one that drives a job into `target`; stores other than disks have no locks.

    Raises UsageError where another process does, and GlassError where the folder cannot be made. Folders that were made
    and are still empty go again.
    """
    if target.store != LOCAL:
        yield
        return
    folder = Path(os.fsdecode(target.path), FOLDER)
    with ExitStack() as stack:
        for each in (folder.parent, folder):
            if not each.exists():
                stack.callback(_remove_empty, each)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_file(folder / "lock"))
        except Taken as taken:
            raise UsageError(f"output: {in_use(target.path, taken)}") from None
        except OSError as error:
            raise GlassError(f"output: {target} cannot be written: {error.strerror}") from error
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
