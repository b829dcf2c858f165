"""The loop of a run: epochs of steps, a validation after each, checkpoints in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from time import perf_counter
from typing import Any, NoReturn

import torch
from glass_export.model import checkpoint_module
from torch.optim.swa_utils import AveragedModel

from glass_rt.errors import TrainingError
from glass_train.data.examples import Examples
from glass_train.data.loader import Batch, batches
from glass_train.data.order import draw_seed, epoch_order
from glass_train.loop.files import BEST, LAST, read_checkpoint_file, write_checkpoint, write_weights
from glass_train.loop.logs import EPOCHS, STEPS, Logs
from glass_train.loop.optimiser import averaged, make_optimiser, make_schedule
from glass_train.loop.state import State
from glass_train.loop.step import train_step
from glass_train.loop.stopping import Request, stop_requests
from glass_train.loop.validation import Validation, validate
from glass_train.model.module import Trained
from glass_train.recipe import Recipe

SHOWN_EVERY_S = 10.0
TIME_IS_UP = "--max-time"  # how a run's end begins that more time would move
Report = Callable[[str], None]


@dataclass(frozen=True)
class LoopSettings:
    """How a run is run; nothing of it changes the weights, but for the seed and an end by `max_seconds`.

    `checkpoint_steps`: a checkpoint after so many steps; else after `checkpoint_seconds`. Each epoch ends with one too.
    `facts`: what the weights' file says of itself.
    """

    seed: int = 606
    workers: int = 2
    max_seconds: float | None = None
    checkpoint_steps: int | None = None
    checkpoint_seconds: float = 600.0
    tensorboard: bool = False
    facts: Mapping[str, str] | None = None


class Trainer:
    """One run in the folder `folder`, which holds its state: open it again with `resume` and it goes on."""

    def __init__(
        self,
        fabric: Any,
        module: Trained,
        recipe: Recipe,
        training: Examples,
        tiers: Mapping[str, Examples],
        folder: Path,
        settings: LoopSettings,
        report: Report = lambda _line: None,
    ) -> None:
        self._fabric, self._recipe, self._folder, self._settings = fabric, recipe, folder, settings
        self._training, self._tiers, self._report = training, tiers, report
        self._raw = module.to(memory_format=torch.channels_last)
        self._raw.freeze(recipe.freeze)
        self._module, self._optimiser = fabric.setup(self._raw, make_optimiser(self._raw, recipe))
        self._schedule = make_schedule(self._optimiser.optimizer, recipe, recipe.epochs * len(self._order(0)))
        self._average: AveragedModel | None = None if recipe.ema is None else averaged(self._raw, recipe.ema)
        self._logs: Logs | None = None
        self.state = State()
        self._saved_at = self._shown_at = perf_counter()

    @property
    def model(self) -> Trained:
        """The weights that count: the averaged ones where the recipe has them."""
        if self._average is None:
            return self._raw
        module = self._average.module
        assert isinstance(module, Trained), "a copy of ours"
        return module

    @property
    def can_resume(self) -> bool:
        """Whether there is a checkpoint; a run that was killed before its first one begins anew, to the same end."""
        return (self._folder / LAST).exists()

    def resume(self, *, extend: bool = True) -> None:
        """Takes up the state of the last checkpoint. Raises TrainingError where there is none that fits.

        `extend`: a run that its time has ended goes on, if it has more now.
        """
        saved = read_checkpoint_file(self._folder / LAST)
        try:
            self._raw.load_state_dict(saved["module"])
            self._optimiser.load_state_dict(saved["optimiser"])
            self._schedule.load_state_dict(saved["schedule"])
            self._fabric.strategy.precision.load_state_dict(saved["precision"])
            if self._average is not None:
                self._average.load_state_dict(saved["average"])
            self.state = State.from_dict(saved["state"])
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"{self._folder / LAST} is of another model or version: {error}") from error
        if extend and self.has_more_time:
            self.state.finished = ""

    @property
    def has_more_time(self) -> bool:
        """Whether the run was ended by its time, before its last epoch, and has more time now."""
        limit, state = self._settings.max_seconds, self.state
        timed_out = state.finished.startswith(TIME_IS_UP) and state.epoch < self._recipe.epochs
        return timed_out and (limit is None or state.seconds < limit)

    def run(self) -> State:
        """Trains to the end of the recipe, of the time, or of patience. Raises KeyboardInterrupt after a signal.

        Raises TrainingError: the loss is no number, a batch of which no image can be read, a full disk.
        """
        if self._chief:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._logs = Logs(self._folder, self.state.step, tensorboard=self._settings.tensorboard)
        try:
            with stop_requests() as request:
                while not self.state.finished:
                    self._epoch(request)
        finally:
            if self._logs is not None:
                self._logs.close()
        return self.state

    @property
    def _chief(self) -> bool:
        return bool(self._fabric.global_rank == 0)

    @property
    def _local_only(self) -> bool:
        return self.state.epoch < self._recipe.local_first

    def _order(self, epoch: int) -> list[Any]:
        recipe, training = self._recipe, self._training
        return epoch_order(training.labels, training.pairs, recipe.batch, self._settings.seed, epoch, recipe.repeats)

    def _epoch(self, request: Request) -> None:
        state, recipe = self.state, self._recipe
        order = self._order(state.epoch)
        self._raw.settle(recipe.settled(state.epoch))
        rest = [self._share(draws) for draws in order[state.step_in_epoch :]]
        start, before = perf_counter(), state.seconds
        for batch in batches(self._training, rest, self._settings.workers):
            self._step(batch)
            state.seconds = before + perf_counter() - start
            self._show(len(order))
            if self._stopped(request):
                self._save()
                self._stop()
            if self._time_is_up():
                break
            self._save_if_due()
        mean = state.loss_sum / max(1, state.step_in_epoch)
        validation = self._validate()
        state.seconds = before + perf_counter() - start
        better = self._note_best(validation)
        self._log_epoch(mean, validation, better)
        state.epoch, state.step_in_epoch, state.loss_sum = state.epoch + 1, 0, 0.0
        if self._time_is_up():
            state.finished = f"{TIME_IS_UP}, after {state.epoch} of {recipe.epochs} epochs"
        elif state.epoch == recipe.epochs:
            state.finished = f"{state.epoch} epoch{'s' if state.epoch > 1 else ''}"
        elif recipe.patience is not None and state.waited >= recipe.patience:
            state.finished = f"no better validation for {state.waited} epoch{'s' if state.waited > 1 else ''}"
        self._save()
        if state.finished and self._stopped(request):  # during the last validation: the next epoch would look
            self._stop()

    def _stop(self) -> NoReturn:
        """Ends the run where it stands, which the checkpoint has. Raises KeyboardInterrupt."""
        self._fabric.barrier()  # a process that ends while the first one still writes takes that one with it
        if self._chief:
            state = self.state
            where = f"stopped after step {state.step}, " + (
                "with the training at its end" if state.finished else f"in epoch {state.epoch + 1}"
            )
            self._report(f"{where}; to go on: glass-rt train --resume --output {quote(str(self._folder))}")
        raise KeyboardInterrupt

    def _share(self, draws: Sequence[Any]) -> Sequence[Any]:
        """This process's images of a batch: both images of a couple, as far as possible."""
        world, rank = self._fabric.world_size, self._fabric.global_rank
        return draws[len(draws) * rank // world : len(draws) * (rank + 1) // world]

    def _step(self, batch: Batch) -> None:
        state = self.state
        state.failed |= dict(batch.failed)
        if not batch.names:
            name, reason = batch.failed[0]
            raise TrainingError(f"no image of a batch can be read any longer ({name}: {reason})")
        torch.manual_seed(draw_seed(self._settings.seed, state.step, self._fabric.global_rank))
        rates = {f"rate_{group['role']}": group["lr"] for group in self._optimiser.param_groups}
        try:
            result = train_step(
                self._fabric, self._module, self._optimiser, batch, self._recipe, local_only=self._local_only
            )
        except TrainingError as error:
            raise TrainingError(f"epoch {state.epoch + 1}, step {state.step + 1}: {error}; {self._remedy()}") from None
        self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self._raw)
        state.step, state.step_in_epoch = state.step + 1, state.step_in_epoch + 1
        state.loss_sum += result.loss
        state.images += len(batch.names) * self._fabric.world_size
        if self._logs is not None:
            self._logs.write(STEPS, {"step": state.step, "epoch": state.epoch + 1, "loss": result.loss, **rates})

    def _remedy(self) -> str:
        last = self._folder / LAST
        kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        return f"{kept}. Lower the learning rates, set --clip, or look at the images"

    def _stopped(self, request: Request) -> bool:
        if self._fabric.world_size == 1:
            return request.asked
        asked = torch.tensor(float(request.asked), device=self._fabric.device)
        return bool(self._fabric.all_reduce(asked, reduce_op="sum") > 0)

    def _time_is_up(self) -> bool:
        limit = self._settings.max_seconds
        if limit is None:
            return False
        seconds = torch.tensor(self.state.seconds, dtype=torch.float64, device=self._fabric.device)
        return bool(self._fabric.all_reduce(seconds, reduce_op="mean") >= limit)

    def _validate(self) -> Validation:
        recipe, fabric = self._recipe, self._fabric
        if fabric.world_size > 1:  # batch statistics are those of each process until its next step
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)
        return validate(
            fabric,
            self.model,
            self._tiers,
            max(1, recipe.batch // recipe.accumulate),
            self._settings.workers,
            local_only=self._local_only,
            rank=fabric.global_rank,
        )

    def _note_best(self, validation: Validation) -> bool:
        """Keeps the weights that are better than all before; those of the local backbone alone do not count."""
        state = self.state
        if self._local_only:
            return False
        if state.best_rank and list(validation.rank) <= state.best_rank:
            state.waited += 1
            return False
        state.waited, state.best_epoch, state.best_rank = 0, state.epoch + 1, list(validation.rank)
        state.best_tiers = {tier: asdict(score) for tier, score in validation.tiers.items()}
        if self._chief:
            weights = checkpoint_module(self.model.model).state_dict()
            write_weights(self._folder / BEST, weights, self._settings.facts or {})
        return True

    def _log_epoch(self, mean: float, validation: Validation, better: bool) -> None:
        state, worst = self.state, validation.worst
        if self._logs is not None:
            figures = {
                f"{tier}_{name}": value
                for tier, score in validation.tiers.items()
                for name, value in asdict(score).items()
            }
            row = {"step": state.step, "epoch": state.epoch + 1, "seconds": round(state.seconds, 1), "loss": mean}
            self._logs.write(EPOCHS, {**row, **figures, "best": int(better)})
        if self._chief:
            score = validation.tiers[worst]
            self._report(
                f"epoch {state.epoch + 1}/{self._recipe.epochs}: loss {mean:.4f}; validation, worst tier ({worst}): "
                f"AUC {score.auc:.3f}, accuracy {score.accuracy:.3f}{', the best so far' if better else ''}"
                f"{' (local backbone alone)' if self._local_only else ''}"
            )

    def _show(self, steps: int) -> None:
        now, state = perf_counter(), self.state
        if not self._chief or now - self._shown_at < SHOWN_EVERY_S:
            return
        self._shown_at = now
        rate = state.images / max(state.seconds, 1e-9)
        left = (self._recipe.epochs - state.epoch) * steps - state.step_in_epoch
        seconds = left * self._recipe.batch / max(rate, 1e-9)
        if self._settings.max_seconds is not None:
            seconds = min(seconds, max(0.0, self._settings.max_seconds - state.seconds))
        mean = state.loss_sum / state.step_in_epoch
        self._report(
            f"epoch {state.epoch + 1}/{self._recipe.epochs}, step {state.step_in_epoch}/{steps}: loss {mean:.4f}, "
            f"{rate:.1f} images/s, {time_left(seconds)} left"
        )

    def _save_if_due(self) -> None:
        steps = self._settings.checkpoint_steps
        if steps is not None:
            if self.state.step % steps == 0:
                self._save()
        elif perf_counter() - self._saved_at >= self._settings.checkpoint_seconds:
            self._save()

    def _save(self) -> None:
        """Writes the checkpoint, unless the weights are broken. Raises TrainingError."""
        self._saved_at = perf_counter()
        if not self._chief:
            return
        weights = self._raw.state_dict()
        if broken := [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]:
            raise TrainingError(f"after step {self.state.step} {broken[0]} is not finite; {self._remedy()}")
        if self._logs is not None:
            self._logs.flush()
        write_checkpoint(
            self._folder / LAST,
            {
                "module": weights,
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
                "precision": self._fabric.strategy.precision.state_dict(),
                "average": None if self._average is None else self._average.state_dict(),
                "state": self.state.to_dict(),
            },
        )


def time_left(seconds: float) -> str:
    """Such as `3 min` or `2 h 05 min`."""
    minutes = max(1, math.ceil(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
