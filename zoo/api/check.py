"""Whether a network can be trained, asked before it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from zoo.errors import UsageError, check_choice

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.training.findings import Checked
    from zoo.training.gradient_check import GradientCheck
    from zoo.training.metrics import Mean
    from zoo.training.recipe import Recipe
    from zoo.training.recipe_changes import RecipeChanges
    from zoo.training.run import Run


def check(
    what: str | os.PathLike[str] | Run | nn.Module,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any] | None = None,
    *,
    val: Dataset[Any] | DataLoader[Any] | None = None,
    classes: Sequence[str] | None = None,
    pretrained: bool | None = None,
    recipe: str | os.PathLike[str] | Recipe = "finetune",
    seconds: float = 60.0,
    seed: int = 0,
    loss: Callable[[Any, Any, nn.Module], Tensor | Mean] | None = None,
    **changes: Unpack[RecipeChanges],
) -> Checked:
    """What `zoo.finetune` checks with the same arguments before it trains, in at most
    about so many `seconds`: whether the first loss is that of guessing, ln(classes) to
    within a tenth; what weight decay adds to it; whether the recipe's optimizer fits a
    few examples; whether each parameter gets a gradient; the share of dead ReLUs.

    Without `data` the network is tried on random inputs of its own kind, all of them of
    class 0, so that only gradients and dead ReLUs say much; a module needs data.

    The result's `problems` are what one should know of, a line each; `ok` says that
    there are none. Nothing is written, and a module at hand stays as it is. Raises what
    `zoo.finetune` raises before it trains.
    """
    from zoo.api.trial import trial
    from zoo.training.checks import check_before
    from zoo.training.recipe_files import load_recipe

    if not seconds > 0:
        raise UsageError(f"seconds={seconds}: needs a number above 0")
    chosen = load_recipe(recipe).changed(changes)
    with trial(
        what,
        data,
        chosen,
        verb="check",
        val=val,
        classes=classes,
        pretrained=pretrained,
        seed=seed,
        loss=loss,
    ) as tried:
        return check_before(
            tried.model,
            tried.batches,
            tried.step,
            chance_loss=tried.chance_loss,
            make_optimizer=tried.make_optimizer,
            decay=chosen.weight_decay,
            seconds=seconds,
            device=tried.device,
        )


def check_gradients(
    what: str | os.PathLike[str] | Run | nn.Module,
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 2,
    *,
    inputs: Any = None,
    mode: str = "train",
    entries: int = 4,
    loss: Callable[[Any], Tensor] | None = None,
    **model_args: Any,
) -> GradientCheck:
    """The analytic gradient against the numerical one, (f(w+h) - f(w-h)) / 2h, in
    float64, for `entries` values of each parameter and of each input that is no
    integer: half of them where the gradient is largest, half at random, the same in
    every call.

    `what`, its input and `model_args` are those of `profile`; the copy that is
    evaluated has a module's own numbers, or new ones. `loss`: from the output to a
    scalar; by default that of the network's task, else a sum of all outputs with random
    weights. Dropout draws the same numbers in every evaluation.

    A value agrees where the relative error |a - n| / max(|a|, |n|) is up to 1e-5. Where
    it is larger only because the loss has a corner within the step h (ReLU, maximum),
    the value counts as a kink: the error falls with a smaller h, or both sides differ
    and the analytic gradient lies between them. Everything else is `wrong`, and the
    result's `ok` False.

    Raises UsageError when the input of a module is not known, InputError when it does
    not take it, or its loss cannot be compared (no number, not computed in float64,
    another one each time).
    """
    import torch

    from zoo.api.memory import task_objective
    from zoo.api.source import resolve
    from zoo.api.workload import real_workload
    from zoo.count.isolation import first_line, kept_random_state
    from zoo.count.meta import copy_with, tensors
    from zoo.count.workload import say_frozen, set_mode
    from zoo.errors import InputError, ZooError
    from zoo.training.gradient_check import compare_gradients

    check_choice("zoo.check_gradients", "mode", mode, ("train", "eval"))
    if entries < 1:
        raise UsageError(f"entries={entries}: needs one value or more")
    source = resolve(what)
    size = 1 if inputs is not None else batch_size
    with torch.inference_mode(False), kept_random_state():
        torch.default_generator.manual_seed(0)
        workload = real_workload(source, input_size, size, inputs=inputs, **model_args)
        if workload.on_meta:
            raise UsageError(f"{workload.name} is on the meta device: it has no numbers to check")
        workload = workload.to(torch.float64)
        model, args, kwargs = workload.module, workload.args, dict(workload.kwargs)
        say_frozen(workload.name, set_mode(model, mode))
        objective = loss or task_objective(source, model, args) or _weighted_sum
        given = [each for each in tensors((args, kwargs)) if each.is_floating_point()]

        def evaluate() -> Tensor:
            copies = {id(each): each.clone() for each in tensors((args, kwargs))}
            own, named = copy_with((args, kwargs), copies)
            return objective(model(*own, **named))

        try:
            return compare_gradients(
                model,
                evaluate,
                {f"input {number}": each for number, each in enumerate(given)},
                workload.name,
                entries,
            )
        except ZooError:
            raise
        except Exception as error:
            raise InputError(
                f"{workload.name} does not take this batch: {first_line(error)}"
            ) from error


def _weighted_sum(output: Any) -> Tensor:
    """Of all values, with random weights: in a plain sum an error could cancel out."""
    import torch

    from zoo.count.meta import tensors

    parts = [each for each in tensors(output) if each.is_floating_point()]
    total = torch.zeros((), dtype=torch.float64)
    for part in parts:
        total = total + (part * torch.randn(part.shape, dtype=torch.float64).to(part)).sum()
    return total
