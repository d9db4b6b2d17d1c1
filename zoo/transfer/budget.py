"""How long training takes, measured on the first batches, and how many epochs fit into
a budget of time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.training.step import Step
from zoo.training.untouched import as_before
from zoo.training.update import Updater
from zoo.transfer.param_groups import recipe_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

    from zoo.training.recipe import Recipe

STEPS = 3  # measured, after a first one that is not


@dataclass(frozen=True)
class Speed:
    """Seconds per example, with reading it."""

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
) -> Speed:
    """Train a copy of the network on the first batches; the network itself and the
    random state stay as they are.
    """
    from accelerate.utils import find_batch_size, send_to_device

    copy = deepcopy(model).to(accelerator.device).train()
    update = Updater(
        copy, copy, recipe_optimizer(recipe, copy), step, accelerator, say=lambda line: None
    )
    count = trained = forwarded = 0.0
    with as_before(train):
        step.begin_epoch(1, True)
        began = asked = time.perf_counter()
        for number, batch in enumerate(train):
            with accelerator.autocast():
                update(batch)
            _wait(accelerator.device)
            ended = time.perf_counter()
            if number:  # the first one starts processes, and plans its kernels
                count += find_batch_size(batch) or 1
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
                first = Speed((ended - began) / (find_batch_size(batch) or 1), 0.0)
    return Speed(trained / count, forwarded / count) if count else first


def agreed(speed: Speed, accelerator: Accelerator) -> Speed:
    """That of the first process, in all of them."""
    from accelerate.utils import broadcast_object_list

    found = [speed]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


def epochs_within(minutes: float, speed: Speed, train: int, val: int, most: int) -> int:
    """How many epochs fit, at least 1 and at most `most`."""
    return max(1, min(most, int(60 * minutes / speed.epoch(train, val))))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
