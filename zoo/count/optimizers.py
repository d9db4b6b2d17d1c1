"""Optimizer steps over meta tensors: the state they keep and the copies they make on the way."""

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


class Stepper:
    """An optimizer after its first step: its state is entered in the tracker's ledger, the gradients are gone.

    `optimizer`: one of NAMES, or a function that makes an optimizer of a list of parameters. On a GPU the named ones run torch's default
    there, which takes all parameters at once (`foreach`) and copies some of them; on the CPU one parameter after the other.
    """

    def __init__(self, optimizer: str | Callable[..., Any], parameters: Sequence[Tensor], device: str, tracker: Tracker) -> None:
        self.tracker = tracker
        tracker.phase = "first step"
        assert tracker.ledger
        begin = len(tracker.ledger.blocks)
        with tracker:
            if optimizer == LBFGS:
                self.name = LBFGS
                self.optimizer: Any = Lbfgs(parameters)
            else:
                if isinstance(optimizer, str):
                    check_choice("zoo.memory", "optimizer", optimizer, NAMES)
                    self.name = optimizer
                    self.optimizer = OPTIMIZERS[optimizer](parameters, foreach=device == "cuda")
                else:
                    self.optimizer = optimizer(parameters)
                    self.name = type(self.optimizer).__name__
                for parameter in parameters:
                    parameter.grad = torch.empty_like(parameter)
                with torch.no_grad():
                    self.optimizer.step()
                for parameter in parameters:
                    parameter.grad = None
        self.state = [block for block in tracker.ledger.blocks[begin:] if block.alive]
        for block in self.state:
            block.label = "optimizer state"

    def step(self) -> None:
        self.tracker.phase = "step"
        with self.tracker, torch.no_grad():
            self.optimizer.step()


class Lbfgs:
    """The vectors that torch.optim.LBFGS holds, each as long as all parameters together, once its history is full.

    Beside the two per remembered step there are the direction, the last gradient, and two that its loop leaves behind; the next
    gradient, difference, step and direction are made before the oldest are let go.
    """

    HISTORY = 100  # torch's default

    def __init__(self, parameters: Sequence[Tensor], history: int = HISTORY) -> None:
        self.parameters = parameters
        self.length = sum(parameter.numel() for parameter in parameters)
        self.steps = [(self._vector(), self._vector()) for _ in range(history)]
        self.direction, self.last, self.flat, self.q = (self._vector() for _ in range(4))

    def _vector(self) -> Tensor:
        like = self.parameters[0]
        return torch.empty(self.length, dtype=like.dtype, device=like.device)

    def step(self) -> None:
        self.flat = self._vector()
        newest = self._vector(), self._vector()
        self.steps = [*self.steps[1:], newest]
        self.q = self._vector()
        self.direction = self._vector()
