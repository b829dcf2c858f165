"""The type of options that name what a command writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from glass_rt.bundle.outside import check_outside


class OutputPath(click.Path):
    """A file or folder to write, as a `Path`: none in a bundle's folder.

    `replaces`: a bundle may stand there, which the command replaces as a whole. The default value is looked at too.
    """

    def __init__(self, *, replaces: bool = False, **options: Any) -> None:
        super().__init__(path_type=Path, **options)
        self._replaces = replaces

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Raises UsageError for one in a bundle's folder."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_outside(path, param.opts[0] if param is not None else "output", replaces=self._replaces)
        return path
