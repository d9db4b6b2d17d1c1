"""Counting a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.api.source import Source, resolve
from zoo.api.workload import meta_workload, real_workload
from zoo.errors import check_choice
from zoo.optimizers import STEPWISE, make_optimizer

if TYPE_CHECKING:
    import os

    from torch import nn

    from zoo.count.profile import Profile
    from zoo.training.run import Run


def profile(
    what: str | os.PathLike[str] | Run | nn.Module,
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    mode: str = "eval",
    stats: bool = False,
    optimizer: str = "momentum",
    **model_args: Any,
) -> Profile:
    """Parameters, MACs and FLOPs of one forward pass, in total and per module, without
    running numbers.

    `mode`: "eval", a forward pass in evaluation mode, or "train", a forward and
    backward pass in training mode, in which parts that you put in evaluation mode by
    hand stay so. `stats`: run one batch of real numbers as well,
    through a copy, for each row's `mean` and `std` of its output and share of `dead`
    ReLUs: a module with its own numbers, a name with its network's initialisation; the
    tensors of `inputs`, or random ones of the right type. What is drawn is the same in
    every call. In mode "train" the batch makes a whole step, with the loss of the
    network's task (else cross-entropy of logits, the sum of anything else; classes are
    all 0), for each row's norm of the `gradient` and, of the first step of `optimizer`
    with its own rate and decay, `update`: the norm of the step over that of the weights
    (about 1e-3 is usual); and per recurrent layer of torch, but for bidirectional ones,
    `state_gradients` per time step.

    `what` is a name, `name.tag`, a weights file of ours, a run (folder), or any module,
    which is left exactly as it is; `model_args` change a network that is built by name.
    The input is the network's own, with images in `input_size`: the side in pixels,
    (H, W) or (C, H, W); or `inputs`: a tensor, a tuple or list of positional arguments
    or a dict of keyword arguments, of which the shapes count, and whether they require
    a gradient. Operators that nothing is known of are said and listed in `uncounted`.

    Raises UsageError when the input of a module is not known, and InputError when the
    model does not take it.
    """
    check_choice("zoo.profile", "mode", mode, ("eval", "train"))
    check_choice("zoo.profile", "optimizer", optimizer, STEPWISE)
    source = resolve(what)
    counted = profile_source(source, input_size, batch_size, inputs=inputs, mode=mode, **model_args)
    if not stats:
        return counted
    import torch

    from zoo.api.memory import task_objective
    from zoo.count.activation_stats import with_stats
    from zoo.count.isolation import kept_random_state
    from zoo.transfer.param_groups import param_groups

    with torch.inference_mode(False), kept_random_state():
        torch.default_generator.manual_seed(0)
        workload = real_workload(source, input_size, batch_size, inputs=inputs, **model_args)
        return with_stats(
            counted,
            workload,
            loss=task_objective(source, workload.module, workload.args),
            make_optimizer=lambda model: make_optimizer(optimizer, param_groups(model)),
        )


def profile_source(
    source: Source,
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    mode: str = "eval",
    **model_args: Any,
) -> Profile:
    """The same of a network that is resolved."""
    from zoo.count.isolation import counting
    from zoo.count.memory.batch_size import check_batch
    from zoo.count.profile import profile_module

    def attempt(batch: int) -> Profile:
        workload = meta_workload(source, input_size, batch, inputs=inputs, **model_args)
        return profile_module(workload, mode)

    with counting():
        return attempt(batch_size) if inputs is not None else check_batch(attempt, batch_size)
