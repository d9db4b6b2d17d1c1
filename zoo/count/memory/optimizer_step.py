"""Optimizer steps over meta tensors: the state they keep and the copies they make on
the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.count.isolation import first_line, is_own_fault, own_fault
from zoo.count.meta import tensors
from zoo.count.torch_internals import run_operator
from zoo.count.tracker import Tracker
from zoo.errors import InputError
from zoo.optimizers import make_optimizer


def chosen_optimizer(
    wanted: str | Callable[..., Any], parameters: Sequence[Tensor], device: str
) -> tuple[str, Any]:
    """Name and optimizer: one of zoo.optimizers, or what a function makes of a list of
    parameters.

    On a GPU the named ones run torch's default there, which takes all parameters at
    once (`foreach`) and copies some of them; on the CPU one parameter after the other.
    """
    if not isinstance(wanted, str):
        made = wanted(parameters)
        return type(made).__name__, made
    options = {} if wanted == "lbfgs" else {"foreach": device == "cuda"}
    return wanted, make_optimizer(wanted, parameters, **options)


class OptimizerStep:
    """An optimizer after its first step, over meta tensors: its state is entered in the
    tracker's log, the gradients are gone.
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
        begin = len(tracker.log.records)
        self.name, self.optimizer = chosen_optimizer(wanted, parameters, device)
        for tensor in tensors(list(self.optimizer.state.values())):
            if tensor.is_meta:  # made with the optimizer, as Adagrad does
                tracker.log.record(tensor, None, tracker.phase)
        with tracker, torch.no_grad():
            if isinstance(self.optimizer, torch.optim.LBFGS):
                self.optimizer = Lbfgs(parameters, self.optimizer.defaults["history_size"])
            else:
                for parameter in parameters:
                    parameter.grad = torch.empty_like(parameter)
                self.optimizer.step()
                for parameter in parameters:
                    parameter.grad = None
        for record in tracker.log.records[begin:]:
            if record.alive:
                record.label = "optimizer state"

    def step(self) -> None:
        """A step with the gradients that are there. Raises InputError where the
        optimizer does not take them.
        """
        self.tracker.phase = "step"
        try:
            with self.tracker, torch.no_grad():
                run_operator(self.optimizer.step, (), {})
        except Exception as error:
            if is_own_fault(error):
                raise own_fault(self.tracker.name, error) from error
            raise InputError(
                f"{self.tracker.name}: a step of {self.name} cannot be predicted: "
                f"{first_line(error).partition('. ')[0]}"
            ) from error


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
