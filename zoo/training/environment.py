"""The process that trains: its random state, its threads, its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.errors import UsageError
from zoo.training.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

SINGLE_THREAD_PARAMS = 100_000  # up to here a second thread costs more than it brings


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw everything from this seed, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """One thread for a small network (LeNet-5 on two cores, batch of 32: 18 ms, with
    two threads 27 ms).
    """
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < SINGLE_THREAD_PARAMS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_accelerator(recipe: Recipe) -> Accelerator:
    """The device, the precision and the processes. Raises UsageError where an earlier
    choice of this process stands against it.
    """
    from accelerate import Accelerator

    try:
        return Accelerator(cpu=recipe.cpu, mixed_precision=recipe.mixed_precision)
    except ValueError as error:  # accelerate keeps one state per process
        raise UsageError(
            f"cpu={recipe.cpu}, mixed_precision={recipe.mixed_precision!r}: {error}"
        ) from error
