"""How long training takes, measured on the first batches, and what fits into a budget
of time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.training.step import Step
from zoo.training.strategy import Strategy
from zoo.training.untouched import as_before
from zoo.training.update import Updater, as_mean
from zoo.transfer.freeze import freeze_groups
from zoo.transfer.param_groups import recipe_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

    from zoo.training.recipe import Recipe

STEPS = 3  # measured, after a first one that is not
ENOUGH = 3  # epochs: where fewer fit, less of the network is trained
NOT_SLOWER = 1.1  # times as long: a smaller batch makes more steps in that time
SMALLEST = 8  # batch, where it is chosen


@dataclass(frozen=True)
class Speed:
    """Seconds per example, or what else the loss is the mean of, with reading it."""

    training: float
    evaluation: float

    def epoch(self, train: int, val: int) -> float:
        """Seconds of an epoch over so many examples."""
        return train * self.training + val * self.evaluation


def measure_speed(
    model: nn.Module,
    train: Iterable[Any],
    step: Step,
    recipe: Recipe,
    accelerator: Accelerator,
    last: int | None = None,
) -> Speed:
    """Train a copy of the network, or its `last` layer groups, on the first batches;
    the network itself and the random state stay as they are.
    """
    from accelerate.utils import send_to_device

    copy = deepcopy(model).to(accelerator.device).train()
    if last:
        freeze_groups(copy, last=last)
    update = Updater(
        copy, copy, recipe_optimizer(recipe, copy), step, accelerator, say=lambda line: None
    )
    count = trained = forwarded = 0.0
    with as_before(train):
        step.begin_epoch(1, True)
        began = asked = time.perf_counter()
        for number, batch in enumerate(train):
            with accelerator.autocast():
                parts = update(batch)
            _wait(accelerator.device)
            size = sum(float(as_mean(values["loss"], part)[1]) for part, values in parts)
            ended = time.perf_counter()
            if number:  # the first one starts processes, and plans its kernels
                count += size
                trained += ended - asked
                with torch.no_grad(), accelerator.autocast():
                    given = step.on_device(send_to_device(batch, accelerator.device), False)
                    step.forward(copy.eval(), given)
                    _wait(accelerator.device)
                copy.train()
                forwarded += time.perf_counter() - ended
            asked = time.perf_counter()
            if number >= STEPS:
                break
            if not number:
                first = Speed((ended - began) / size, 0.0)
    return Speed(trained / count, forwarded / count) if count else first


def agreed(speed: Speed, accelerator: Accelerator) -> Speed:
    """That of the first process, in all of them."""
    from accelerate.utils import broadcast_object_list

    found = [speed]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


@dataclass(frozen=True)
class Plan:
    """What fits: `epochs` at `speed`, of a strategy that trains."""

    strategy: Strategy
    batch_size: int
    epochs: int = 1
    speed: Speed | None = None

    def words(self, minutes: float, counts: tuple[int, int], most: int) -> str:
        if self.speed is None:
            return f"strategy {self.strategy}: {minutes:g} minutes are too few to train more"
        seconds = self.speed.epoch(*counts)
        fits = self.epochs * seconds <= 60 * minutes
        return (
            f"an epoch takes about {seconds:,.0f} s (strategy {self.strategy}, batches of "
            f"{self.batch_size}): {self.epochs} of {most} epochs "
            + (f"fit into {minutes:g} minutes" if fits else "are more than the minutes given")
        )


def plan_within(
    seconds: float,
    measure: Callable[[Strategy, int], Speed],
    counts: tuple[int, int],
    *,
    most: int,
    strategies: Sequence[Strategy],
    batch_sizes: Sequence[int],
) -> Plan:
    """The first of the `strategies` of which ENOUGH epochs, or `most`, fit into the
    time, else the last of them; with the smallest batch that is about as fast as the
    first one. `counts` of training and validation.
    """
    for strategy in strategies:
        if strategy.kind.startswith("probe"):
            break
        size = batch_sizes[0]
        best = speed = measure(strategy, size)
        for smaller in batch_sizes[1:]:
            found = measure(strategy, smaller)
            if found.training > NOT_SLOWER * best.training:
                break
            size, speed = smaller, found
            best = min(best, found, key=lambda each: each.training)
        epochs = max(1, min(most, int(seconds / speed.epoch(*counts))))
        if epochs >= min(ENOUGH, most) or strategy == strategies[-1]:
            return Plan(strategy, size, epochs, speed)
    return Plan(strategies[-1], batch_sizes[0])


def smaller_batches(largest: int) -> list[int]:
    """The batch itself, a half and a quarter of it."""
    return [size for size in (largest, largest // 2, largest // 4) if size >= SMALLEST] or [largest]


def cheaper(strategy: Strategy) -> list[Strategy]:
    """The strategy, and what trains less of the network."""
    known = [Strategy("full"), Strategy("last", 2), Strategy("probe")]
    return known[known.index(strategy) :] if strategy in known else [strategy]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
