"""Optimizer steps over meta tensors: the state they keep and the copies they make on
the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zoo.count.tracker import Tracker
from zoo.errors import check_choice

SGD = torch.optim.SGD
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": partial(SGD, lr=0.1),
    "momentum": partial(SGD, lr=0.1, momentum=0.9),
    "nesterov": partial(SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
LBFGS = "lbfgs"
NAMES = (*OPTIMIZERS, LBFGS)


def make_optimizer(
    wanted: str | Callable[..., Any], parameters: Sequence[Tensor], device: str
) -> tuple[str, Any]:
    """Name and optimizer: one of NAMES, or what a function makes of a list of
    parameters.

    On a GPU the named ones run torch's default there, which takes all parameters at
    once (`foreach`) and copies some of them; on the CPU one parameter after the other.
    """
    if not isinstance(wanted, str):
        made = wanted(parameters)
        return type(made).__name__, made
    check_choice("zoo.memory", "optimizer", wanted, NAMES)
    return wanted, torch.optim.LBFGS(parameters) if wanted == LBFGS else OPTIMIZERS[wanted](
        parameters, foreach=device == "cuda"
    )


class Stepper:
    """An optimizer after its first step, over meta tensors: its state is entered in the
    tracker's ledger, the gradients are gone.
    """

    def __init__(
        self,
        wanted: str | Callable[..., Any],
        parameters: Sequence[Tensor],
        device: str,
        tracker: Tracker,
    ) -> None:
        self.tracker = tracker
        tracker.phase = "first step"
        assert tracker.ledger
        begin = len(tracker.ledger.blocks)
        self.name, self.optimizer = make_optimizer(wanted, parameters, device)
        with tracker, torch.no_grad():
            if isinstance(self.optimizer, torch.optim.LBFGS):
                self.optimizer = Lbfgs(parameters, self.optimizer.defaults["history_size"])
            else:
                for parameter in parameters:
                    parameter.grad = torch.empty_like(parameter)
                self.optimizer.step()
                for parameter in parameters:
                    parameter.grad = None
        for block in tracker.ledger.blocks[begin:]:
            if block.alive:
                block.label = "optimizer state"

    def step(self) -> None:
        self.tracker.phase = "step"
        with self.tracker, torch.no_grad():
            self.optimizer.step()


class Lbfgs:
    """The vectors that torch.optim.LBFGS holds, each as long as all parameters
    together, once its history is full.

    Beside the two per remembered step there are the direction, that of the call before,
    the last gradient, and two that its loop leaves behind; the next gradient,
    difference, step and direction are made before the oldest are let go.
    """

    def __init__(self, parameters: Sequence[Tensor], history: int) -> None:
        self.parameters = parameters
        self.length = sum(parameter.numel() for parameter in parameters)
        self.steps = [(self._vector(), self._vector()) for _ in range(history)]
        self.direction, self.before, self.last, self.flat, self.q = (
            self._vector() for _ in range(5)
        )

    def _vector(self) -> Tensor:
        like = self.parameters[0]
        return torch.empty(self.length, dtype=like.dtype, device=like.device)

    def step(self) -> None:
        self.flat = self._vector()
        newest = self._vector(), self._vector()
        self.steps = [*self.steps[1:], newest]
        self.q = self._vector()
        self.direction = self._vector()
