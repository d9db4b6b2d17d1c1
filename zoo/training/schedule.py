"""The course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from zoo.training.recipe import Recipe

# where a recipe does not say
WARMUP = {"cosine": 0.1, "one-cycle": 0.3}  # parts of the training; 0 for the others
FACTOR, PATIENCE = 0.1, 5
# one-cycle, with the numbers of torch's OneCycleLR, as shares of the highest rate
FIRST, LAST = 1 / 25, 1 / 250_000
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85

Course = Callable[[int], float]  # of the number of steps taken


class Schedule:
    """Sets the learning rate of every parameter group, as a share of the group's
    highest, for the step to come: `step()` follows each step of the optimizer, and
    `end_epoch(value)` each epoch, with the metric that selects.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        share: Course,
        *,
        momentum: Course | None = None,
        factor: float = 1.0,
        patience: int | None = None,
        higher_is_better: bool = False,
    ) -> None:
        """`patience`: after as many epochs without a better value all rates are
        multiplied by `factor`.
        """
        self.optimizer = optimizer
        self.share = share
        self.momentum = momentum
        self.factor = factor
        self.patience = patience
        self.sign = 1 if higher_is_better else -1
        self.steps = 0
        self.scale = 1.0
        self.best = -math.inf  # larger is better
        self.stalled = 0  # epochs
        for group in optimizer.param_groups:  # torch's own name; a loaded optimizer has it
            group.setdefault("initial_lr", group["lr"])
        self._set()

    def step(self) -> None:
        self.steps += 1
        self._set()

    def end_epoch(self, value: float) -> None:
        """`value` is the metric on the validation data; nan is no better one."""
        if self.patience is None:
            return
        if self.sign * value > self.best:
            self.best, self.stalled = self.sign * value, 0
        else:
            self.stalled += 1
        if self.stalled == self.patience:
            self.scale, self.stalled = self.scale * self.factor, 0
            self._set()

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group in the step to come."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, float]:
        return {
            "steps": self.steps,
            "scale": self.scale,
            "best": self.best,
            "stalled": self.stalled,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.steps, self.stalled = int(state["steps"]), int(state["stalled"])
        self.scale, self.best = state["scale"], state["best"]
        self._set()

    def _set(self) -> None:
        share = self.share(self.steps) * self.scale
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
            if self.momentum:
                group["momentum"] = self.momentum(self.steps)


def make_schedule(
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    steps: int,
    steps_per_epoch: int,
    *,
    higher_is_better: bool = False,
) -> Schedule:
    """The recipe's schedule for a training of `steps` steps of the optimizer. Groups
    with rates of their own keep their ratio.

    cosine     rises in a line, falls along a cosine to 0 (SGDR, arXiv:1608.03983,
               eq. 5)
    one-cycle  rises from a 25th along half a cosine, falls along another to almost 0
               (Smith and Topin, arXiv:1708.07120; the numbers are torch's)
    step       times lr_factor at the milestones, or after every lr_every epochs
    plateau    times lr_factor where the selecting metric has not become better for
               lr_patience epochs; `higher_is_better` of that metric
    linear     in a line to 0
    constant   as it is
    """
    name = recipe.schedule
    warmup = WARMUP.get(name, 0.0) if recipe.warmup is None else recipe.warmup
    if name == "one-cycle":
        cycled = _cycle(warmup, steps, HIGH_MOMENTUM, LOW_MOMENTUM, HIGH_MOMENTUM)
        momentum = cycled if recipe.cycle_momentum else None
        return Schedule(optimizer, _cycle(warmup, steps, FIRST, 1, LAST), momentum=momentum)
    rising = max(int(warmup * steps), 1) if warmup else 0
    falling = _course(recipe, steps, steps_per_epoch, rising)

    def share(step: int) -> float:
        return (step + 1) / rising if step < rising else falling(step)

    factor = recipe.lr_factor if isinstance(recipe.lr_factor, float | int) else FACTOR
    patience = None
    if name == "plateau":
        patience = recipe.lr_patience or PATIENCE
    return Schedule(
        optimizer, share, factor=factor, patience=patience, higher_is_better=higher_is_better
    )


def _course(recipe: Recipe, steps: int, steps_per_epoch: int, rising: int) -> Course:
    """What follows the `rising` steps of the warm-up."""

    def passed(step: int) -> float:
        return min((step - rising) / max(steps - rising, 1), 1)

    if recipe.schedule == "cosine":
        return lambda step: _half_cosine(1, 0, passed(step))
    if recipe.schedule == "linear":
        return lambda step: 1 - passed(step)
    if recipe.schedule == "step":
        return _steps(recipe, steps, steps_per_epoch)
    return lambda step: 1.0


def _steps(recipe: Recipe, steps: int, steps_per_epoch: int) -> Course:
    factor = FACTOR if recipe.lr_factor is None else recipe.lr_factor
    if recipe.lr_every:
        assert isinstance(factor, (float, int))
        every = recipe.lr_every * steps_per_epoch
        return lambda step: factor ** (step // every)
    milestones = [round(part * steps) for part in recipe.lr_milestones or ()]
    factors = factor if isinstance(factor, tuple) else (factor,) * len(milestones)
    changes = list(zip(milestones, factors, strict=True))
    return lambda step: math.prod(factor for start, factor in changes if step >= start)


def _cycle(part: float, steps: int, first: float, middle: float, last: float) -> Course:
    """From `first` to `middle` in this part of the steps, then to `last`."""
    turn, end = max(part * steps - 1, 0), max(steps - 1, 1)

    def value(step: int) -> float:
        if step < turn:
            return _half_cosine(first, middle, step / turn)
        return _half_cosine(middle, last, min((step - turn) / max(end - turn, 1), 1))

    return value


def _half_cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * part))
