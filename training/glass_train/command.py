"""`glass-rt train`: labelled images to a bundle that may be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from glass_rt.bundle.manifest import ARCHITECTURES
from glass_rt.cli.options import quiet_option
from glass_rt.cli.output_path import OutputPath
from glass_rt.errors import UsageError
from glass_rt.machine.file_names import text_from_name
from glass_rt.machine.one_writer import only_writer_in
from glass_rt.progress import reporter, silent


def _triple(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    try:
        numbers = None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if numbers is not None and len(numbers) != 3:
        raise click.BadParameter(f"{value!r}: expected three numbers, for global, local and head", param=param)
    return numbers


def _words(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


def _say(line: str) -> None:
    """Prints a line that cannot command the terminal; letter by letter, so that what is escaped already stays so."""
    click.echo("".join(map(text_from_name, line)), err=True)


_N = click.IntRange(1)
_THREADS = click.IntRange(1, 1024)  # OpenMP ends a process that cannot start all of them
_RATE = click.FloatRange(0)


# What a run cannot begin without.
_NEEDED = {
    "data": "DIR is missing: the folder of labelled images",
    "backbone": "--backbone is missing: such as vit_b16, or mobilenet_v3_small for a try (--help names them all)",
}


@click.command(short_help="Train a model on labelled images; write its bundle and its card.")
@click.argument("data", type=click.Path(path_type=Path), metavar="DIR", required=False)
@click.option(
    "--labels",
    metavar="folder|TABLE",
    help="Sub-folders `fake` and `real`, or a table: a CSV, TSV or Parquet file.  [default: folder]",
)
@click.option("--output", type=OutputPath(), required=True, metavar="RUN", help="Folder that holds the run.")
@click.option(
    "--backbone", metavar="NAME", help="vit_b16, resnet50, convnext_tiny, resnet18, mobilenet_v3_small, or timm:NAME."
)
@click.option(
    "--architecture", type=click.Choice(ARCHITECTURES), help="glass, or the resize-only baseline.  [default: glass]"
)
@click.option(
    "--weights",
    metavar="imagenet|none|FILE",
    help="Weights that the backbones begin with: pretrained ones (a download), random ones, or a checkpoint's.  "
    "[default: imagenet]",
)
@click.option(
    "--quick", is_flag=True, help="Freeze the backbones, and train the head on embeddings that are computed once."
)
@click.option("--crops", type=_N, metavar="K", help="Crops per image.  [default: the authors']")
@click.option(
    "--epochs", type=_N, metavar="N", help="Rounds of training, each with a validation after it.  [default: 50]"
)
@click.option("--batch", type=_N, metavar="N", help="Images in one step.  [default: the authors']")
@click.option(
    "--accumulate", type=_N, metavar="N", help="Parts in which a batch is computed, to save memory.  [default: 1]"
)
@click.option("--repeats", type=_N, metavar="N", help="Times that one epoch visits an image.  [default: 1]")
@click.option("--learning-rates", callback=_triple, metavar="G,L,H",
              help="Learning rates of global backbone, local backbone and head.  [default: the authors']")  # fmt: skip
@click.option(
    "--weight-decays",
    callback=_triple,
    metavar="G,L,H",
    help="Weight decays of the same three.  [default: the authors']",
)
@click.option(
    "--final-learning-rate",
    type=_RATE,
    metavar="X",
    help="Learning rate at the end, as the cosine schedule has it.  [default: 1e-6]",
)
@click.option(
    "--label-smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="X",
    help="Label smoothing of the loss.  [default: 0.1]",
)
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="P",
    help="Dropout in the model.  [default: the authors']",
)
@click.option(
    "--clip",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="Clip the gradients to this norm.  [default: no clipping]",
)
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), metavar="X",
              help="Keep averages of the weights, with this decay for each step.  [default: none]")  # fmt: skip
@click.option(
    "--freeze", callback=_words, metavar="ROLES", help="Leave these parts as they are: some of global,local,head."
)
@click.option("--local-first", type=click.IntRange(0), metavar="N",
              help="Epochs at the beginning in which only the local backbone learns.  [default: 0]")  # fmt: skip
@click.option(
    "--crop-loss", type=_RATE, metavar="X", help="Weight of an additional loss of each crop by itself.  [default: 0]"
)
@click.option("--high-pass", is_flag=True, help="Begin with first convolutions whose filters have no mean.")
@click.option("--batch-norm-momentum", type=click.FloatRange(0, 1), metavar="X",
              help="Momentum of BatchNorm's running statistics.  "
              "[default: the backbone's; 0.1 with random weights]")  # fmt: skip
@click.option("--freeze-statistics", type=_N, metavar="N",
              help="Keep a backbone's batch statistics after N epochs of its learning.  [default: never]")  # fmt: skip
@click.option("--step-crops", type=_N, metavar="N", help="Crops of an image in one step.  [default: all K]")
@click.option(
    "--precision", type=click.Choice(("fp32", "bf16", "fp16")), help="Precision of autocast.  [default: fp32]"
)
@click.option(
    "--patience", type=_N, metavar="N", help="Stop after N epochs without a better validation.  [default: never]"
)
@click.option("--tiers", callback=_words, metavar="NAMES",
              help="Forms of the images that validation looks at.  [default: clean,jpeg90,jpeg70,web]")  # fmt: skip
@click.option("--delivery", metavar="none|flips|mild|web|FILE",
              help="How training images are changed, as they are on their way.  [default: none]")  # fmt: skip
@click.option("--deliveries", type=_N, metavar="M", help="Different deliveries of each image.  [default: 8]")
@click.option("--keep-aside", multiple=True, metavar="SOURCE", help="Use this source for the test alone; repeatable.")
@click.option(
    "--shuffle-labels", is_flag=True, help="Train on shuffled labels, as a control: the test must then give chance."
)
@click.option("--align", is_flag=True, help="Cut and code both classes alike while training, where the files give the "
              "label away.")  # fmt: skip
@click.option(
    "--allow-shortcuts", is_flag=True, help="Train although the files give the label away; checkpoint and cards say so."
)
@click.option(
    "--max-time",
    type=click.FloatRange(0, min_open=True),
    metavar="MIN",
    help="Stop after so many minutes.  [default: no limit]",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Seed of all that is random.  [default: 606]"
)
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), help="Device that trains.  [default: cuda where PyTorch finds one]"
)
@click.option(
    "--devices", type=_N, metavar="N", help="Processes that train, each on a device of its own.  [default: 1]"
)
@click.option("--threads", type=_THREADS, metavar="N", help="CPU threads of PyTorch.  [default: cores]")
@click.option("--workers", type=_THREADS, metavar="N", help="Threads that decode images.  [default: cores]")
@click.option("--checkpoint-steps", type=_N, metavar="N", help="Steps between checkpoints.  [default: 10 minutes]")
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard too.")
@click.option("--backend", metavar="NAME", help="Backend of the bundle, as for build.  [default: auto]")
@click.option("--bundle/--no-bundle", default=True,
              help="End with the bundle, the test and the card, or leave them to a later --resume --bundle.  "
              "[default: bundle]")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the run in RUN, by the options it began with.")
@click.option("--force", is_flag=True, help="Begin anew where RUN holds a run.")
@quiet_option
@click.pass_context
def train(
    ctx: click.Context, /, data: Path | None, output: Path, resume: bool, force: bool, quiet: bool, **given: Any
) -> int:
    """Train a model on the labelled images of DIR, build its bundle, and evaluate it on the test split.

    RUN holds the run: checkpoints, logs, best.safetensors, bundle/, card.md. A run that was stopped or killed goes on
    with --resume, on a CPU to the same bits. Ctrl-C stops after the step at work.
    """
    from glass_train.finish.card import CARD, read_card, test_in_words
    from glass_train.finish.finish import BUNDLE
    from glass_train.loop.files import BEST
    from glass_train.options import TrainOptions
    from glass_train.run import join_run, resume_run, start_run

    stage = silent if quiet else reporter()
    report = (lambda _line: None) if quiet else _say
    chosen = {
        name: value
        for name, value in given.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT and value is not None
    }
    if data is not None:
        chosen["data"] = str(data.resolve())
    if os.environ.get("LOCAL_RANK", "0") != "0":  # Lightning Fabric has started this process for a run with --devices
        join_run(output, chosen, resume=resume)
        return 0
    with only_writer_in(output):
        if resume and force:
            raise UsageError("--resume goes on with a run, and --force begins anew: give one of them")
        if resume:
            resume_run(output, chosen, stage=stage, report=report)
        else:
            for name, lack in _NEEDED.items():
                if name not in chosen:
                    raise UsageError(f"{lack}; only --resume takes it from the run")
            start_run(TrainOptions(**chosen), output, force=force, stage=stage, report=report)
    click.echo(f"weights: {output / BEST}")
    if (output / CARD).exists():  # a run that began with --no-bundle goes on without one
        click.echo(f"bundle:  {output / BUNDLE}")
        click.echo(f"card:    {output / 'card.md'}")
        click.echo(f"test:    {test_in_words(read_card(output / CARD))}")
    return 0
