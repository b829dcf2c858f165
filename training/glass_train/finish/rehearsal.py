"""The end of a run, tried before it begins: a backbone of which no bundle can be built is refused at once."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from glass_export.model import checkpoint_module

from glass_rt.errors import BuildError, ExportError
from glass_rt.progress import Stage, silent
from glass_train.finish.finish import build_best
from glass_train.loop.files import BEST, write_weights
from glass_train.model.start import start_model
from glass_train.options import TrainOptions
from glass_train.recipe import Recipe


def rehearse(options: TrainOptions, recipe: Recipe, stage: Stage) -> None:
    """Builds a bundle of the model that training begins with, past the parity gate, and throws it away.

    Raises ExportError, by the name of the backbone, where that cannot be built, and CheckpointError for the weights.
    """
    name = options.row.name
    with stage(f"trying export and parity gate on {name}"), TemporaryDirectory(prefix="glass-rt-") as temporary:
        folder = Path(temporary)
        model = start_model(options.row, options.architecture, options.weights, recipe, options.seed)
        write_weights(folder / BEST, checkpoint_module(model).state_dict(), {})
        try:
            build_best(options, recipe, folder, silent)
        except (ExportError, BuildError) as error:
            raise ExportError(f"{name} cannot be trained here, since no bundle can be built of it: {error}") from error
