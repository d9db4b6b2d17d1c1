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


def thread_count(model: nn.Module) -> int:
    """One thread for a small network (LeNet-5 on two cores, batch of 32: 18 ms, with
    two threads 27 ms), else torch's number.
    """
    small = sum(parameter.numel() for parameter in model.parameters()) < SINGLE_THREAD_PARAMS
    return 1 if small else torch.get_num_threads()


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Compute with `thread_count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count(model))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def accelerator_for(recipe: Recipe) -> Iterator[Accelerator]:
    """The device, the precision and the processes of one run. accelerate keeps its
    choices per process: here each run makes its own, and leaves those of the caller as
    they were.

    Raises UsageError where that is not possible on this machine, or in a group of
    processes that has chosen already.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = [AcceleratorState, GradientState]
    if not torch.distributed.is_initialized():  # a group of processes cannot be chosen again
        states.append(PartialState)
    before = [dict(state._shared_state) for state in states]
    for state in states:
        state._shared_state.clear()
    asked = f"cpu={recipe.cpu}, mixed_precision={recipe.mixed_precision!r}"
    try:
        try:
            accelerator = Accelerator(cpu=recipe.cpu, mixed_precision=recipe.mixed_precision)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{asked}: {error}") from error
        if recipe.cpu and accelerator.device.type != "cpu":
            raise UsageError(f"{asked}: this group of processes computes on {accelerator.device}")
        yield accelerator
    finally:
        for state, kept in zip(states, before, strict=True):
            state._shared_state.clear()
            state._shared_state.update(kept)


def allow_skipped_parameters(accelerator: Accelerator, model: nn.Module) -> None:
    """Several processes wait for every gradient in each step: where the model or a part
    of it says `skips_parameters`, for those only that the step has.
    """
    from accelerate.utils import DistributedDataParallelKwargs

    if any(getattr(module, "skips_parameters", False) is True for module in model.modules()):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)


@contextmanager
def forward_restored(module: nn.Module) -> Iterator[None]:
    """accelerate replaces a module's `forward` to compute in another precision:
    afterwards it is the module's own again, whatever happened.
    """
    names = ("forward", "_original_forward")
    before = {name: vars(module)[name] for name in names if name in vars(module)}
    try:
        yield
    finally:
        for name in names:
            vars(module).pop(name, None)
        vars(module).update(before)
