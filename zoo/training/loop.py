"""The training loop. It knows no network and no task: a Step says what a batch gives,
what to minimise and what to measure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.errors import UsageError
from zoo.training.ema import WeightAverage
from zoo.training.environment import allow_skipped_parameters
from zoo.training.interrupts import Interrupts, Stopped
from zoo.training.metrics import MetricAverager, Record
from zoo.training.progress import Progress
from zoo.training.random_state import random_state, set_random_state
from zoo.training.schedule import Schedule
from zoo.training.step import Step
from zoo.training.update import Updater

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG_EVERY = 10  # batches between two readings of the running means: reading waits for the GPU
SAVE_MINUTES = 10.0  # between two checkpoints inside an epoch
TrainState = dict[str, Any]  # all that a run needs to go on; a checkpoint holds it


class Loop:
    """Trains for `epochs` epochs, evaluates after each, and keeps a record per epoch.

    `train` and `val`: a loader with `set_position(epoch, start)` gives the batches of
    this process from there on; a DataLoader without it is divided by accelerate.
    `schedule` steps once per step of the optimizer, and gets `value(record)` when an
    epoch ends. `limit`, `clip`, `clip_value`: see Updater; `ema`: decay of the weights'
    moving average, which then is what is evaluated.

    `save(state)` is called when an epoch ends, before `after_epoch(record, module)`,
    and every SAVE_MINUTES; `stop(history)` ends training early; `counted()` are further
    numbers for the record of an epoch. A record holds `epoch`,
    `lr`, `seconds`, `<unit>_per_second` (training alone), `data_wait` (the share of
    that time in which there was no batch to compute), and `train_` and `val_` means of
    the loss and of each metric.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Iterable[Any],
        val: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        step: Step,
        epochs: int,
        accelerator: Accelerator,
        progress: Progress,
        after_epoch: Callable[[Record, nn.Module], None] = lambda record, module: None,
        counted: Callable[[], Record] = dict,
        save: Callable[[TrainState], None] | None = None,
        stop: Callable[[Sequence[Record]], bool] = lambda history: False,
        unit: str = "images",
        value: Callable[[Record], float] = lambda record: record["val_loss"],
        limit: int = 0,
        clip: float | None = None,
        clip_value: float | None = None,
        ema: float | None = None,
    ) -> None:
        self.module = model
        self.step = step
        self.epochs = epochs
        self.accelerator = accelerator
        self.progress = progress
        self.after_epoch = after_epoch
        self.counted = counted
        self.save = save
        self.stop = stop
        self.unit = unit
        self.value = value
        self.describe = getattr(train, "describe", None)
        allow_skipped_parameters(accelerator, model)
        self.average = WeightAverage(model, ema) if ema else None
        prepared, self.optimizer = accelerator.prepare(model, optimizer)
        if self.average:
            self.average.module.to(accelerator.device)
        self.train = _of_this_process(train, accelerator, even=True)
        self.val = _of_this_process(val, accelerator, even=False)
        self.schedule = schedule
        self.update = Updater(
            prepared, model, self.optimizer, step, accelerator,
            limit=limit, clip=clip, clip_value=clip_value, say=progress.say,
        )  # fmt: skip
        self.epoch = 1  # the one under way
        self.history: list[Record] = []
        self.averages = self._averages()
        self.seconds = self.waited = 0.0  # in this epoch
        self.lr = 0.0  # at its beginning
        self.epoch_random: dict[str, Any] | None = None  # where it began

    def run(self) -> list[Record]:
        """Train to the end. Raises Stopped, after a checkpoint, when the process is to
        stop.
        """
        with Interrupts(self.accelerator) as interrupts:
            while self.epoch <= self.epochs and not (self.history and self.stop(self.history)):
                self._train_epoch(interrupts)
                self._end_epoch()
                if interrupts.due():
                    raise Stopped
        if self.average:
            self.module.load_state_dict(self.average.module.state_dict())
        return self.history

    def _train_epoch(self, interrupts: Interrupts) -> None:
        self.update.model.train()
        if not self.averages.batches:  # else it goes on inside the epoch, as the step's state does
            self.step.begin_epoch(self.epoch, True)
            self.lr = float(self.schedule.get_last_lr()[0])
        began = time.perf_counter() - self.seconds
        saved = time.perf_counter()
        for number, batch in self._batches():
            for part, values in self.update(batch):
                self.averages.add(part, values)
            self.averages.end_batch()
            self.schedule.step()
            if self.average:
                self.average.update(self.module)
            self.seconds = time.perf_counter() - began
            if number % LOG_EVERY == 0:
                self.averages.check()
                world = self.accelerator.num_processes
                done = min(self.averages.count * world, self.progress.total)
                self.progress.batch(self.epoch, done, self.averages.read())
            if interrupts.due(time.perf_counter() - saved > 60 * SAVE_MINUTES):
                self._save()
                saved = time.perf_counter()
                if interrupts.told:
                    raise Stopped

    def _batches(self) -> Iterator[tuple[int, Any]]:
        """What is left of the epoch, with its numbers. How long each was waited for is
        noted.
        """
        start = self.averages.batches
        if here := getattr(self.train, "set_position", None):
            here(self.epoch, start)
            batches, number = iter(self.train), start
        else:  # what it draws, it draws from the random state of the process
            before = random_state()
            if self.epoch_random:
                set_random_state(self.epoch_random)
            self.epoch_random = random_state()
            batches, number = iter(self.train), start
            for _ in range(start):
                next(batches, None)
            if start:
                set_random_state(before)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.perf_counter() - asked
            yield number, batch
            number += 1

    def _end_epoch(self) -> None:
        began = time.perf_counter()
        self.averages.gather()
        record: Record = {
            "epoch": self.epoch,
            "lr": self.lr,
            f"{self.unit}_per_second": self.averages.count / self.seconds,
            "data_wait": self.waited / self.seconds,
        }
        record |= {f"train_{name}": value for name, value in self.averages.read().items()}
        found = evaluate(
            self.trained, self.val, self.step, epoch=self.epoch, accelerator=self.accelerator,
            where=f"on the validation data in epoch {self.epoch}",
        )  # fmt: skip
        record |= {f"val_{name}": value for name, value in found.items()}
        record["seconds"] = self.seconds + time.perf_counter() - began
        record |= self.counted()
        self.history.append(record)
        self.schedule.end_epoch(self.value(record))
        self.epoch += 1
        self.averages = self._averages()
        self.seconds = self.waited = 0.0
        self.epoch_random = None
        self._save()
        self.after_epoch(record, self.trained)
        self.progress.epoch(record)

    @property
    def trained(self) -> nn.Module:
        """The module whose weights count."""
        return self.average.module if self.average else self.module

    def _averages(self) -> MetricAverager:
        return MetricAverager(f"in epoch {self.epoch}", self._advice)

    def _advice(self, batch: int) -> str:
        """What to do about a loss that is no number."""
        rate = self.schedule.get_last_lr()[0]
        files = self.describe(self.epoch, batch) if self.describe else ""
        return (
            f", batch {batch + 1}: lower the learning rate (now {rate:g}), or check the inputs' "
            f"scale (mean and std){f'; in the batch: {files}' if files else ''}"
        )

    # ------------------------------------------------------------------- going on later

    def _save(self) -> None:
        if self.save:
            self.averages.check()
            self.save(self.state_dict())

    def state_dict(self) -> TrainState:
        """The TrainState: tensors, numbers, lists and tables of such. All processes
        call it.
        """
        from accelerate.utils import gather_object

        scaler = self.accelerator.scaler
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "waited": self.waited,
            "lr": self.lr,
            "history": self.history,
            "averages": gather_object([self.averages.state_dict()]),
            "random": gather_object([random_state()]),
            "epoch_random": gather_object([self.epoch_random]),
            "model": self.module.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "step": gather_object([self.step.state_dict()]),
            "limit": self.update.limit,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there. Raises UsageError for another number of processes."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if len(state["random"]) != world:
            raise UsageError(
                f"the checkpoint is of {len(state['random'])} processes: go on with as many, "
                f"not {world}"
            )
        self.module.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step.load_state_dict(state["step"][rank])
        self.update.limit = state["limit"]
        self.epoch = state["epoch"]
        self.history = [*state["history"]]
        self.seconds, self.waited, self.lr = state["seconds"], state["waited"], state["lr"]
        self.averages = self._averages()
        self.averages.load_state_dict(state["averages"][rank])
        self.epoch_random = state["epoch_random"][rank]
        set_random_state(state["random"][rank])


def _of_this_process(loader: Any, accelerator: Accelerator, *, even: bool) -> Any:
    """A loader that gives each process its own part. `even`: as many batches to each,
    as training needs; else each example once.
    """
    if hasattr(loader, "set_position") or not isinstance(loader, torch.utils.data.DataLoader):
        return loader
    before, accelerator.even_batches = accelerator.even_batches, even
    try:
        return accelerator.prepare_data_loader(loader)
    finally:
        accelerator.even_batches = before


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    step: Step,
    *,
    accelerator: Accelerator | None = None,
    epoch: int = 1,
    where: str = "",
) -> Record:
    """Means of the loss and each metric over the whole data, of all processes of the
    `accelerator`, and its scores, in evaluation mode.
    """
    from accelerate.utils import send_to_device

    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    model.eval()
    step.begin_epoch(epoch, False)
    averages = MetricAverager(where)
    for given in batches:
        batch = step.on_device(send_to_device(given, device), False)
        outputs = step.forward(model, batch)
        loss = step.loss(outputs, batch, model)
        averages.add(batch, {"loss": loss, **step.metrics(outputs, batch)})
    if accelerator and accelerator.num_processes > 1:
        averages.gather()
    return {**averages.read(), **step.scores(model)}
