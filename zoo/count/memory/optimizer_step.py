"""Optimizer steps over meta tensors: the state they keep and the copies they make on
the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.count.isolation import first_line, is_own_fault, own_fault
from zoo.count.meta import tensors
from zoo.count.torch_internals import optimizers_take_meta, run_operator, schema
from zoo.count.tracker import Tracker
from zoo.errors import InputError, ZooError
from zoo.optimizers import make_optimizer

LATER = 100  # steps: RAdam makes less in its first five


def chosen_optimizer(
    wanted: str | Callable[..., Any], parameters: Sequence[Tensor]
) -> tuple[str, torch.optim.Optimizer]:
    """Name and optimizer: one of zoo.optimizers, or what a function makes of a list of
    parameters. Raises InputError for what is no optimizer.
    """
    if isinstance(wanted, str):
        return wanted, make_optimizer(wanted, parameters)
    made = run_operator(wanted, (parameters,), {})
    if not callable(getattr(made, "step", None)) or not hasattr(made, "state"):
        raise InputError(
            f"optimizer= gives a {type(made).__name__}: expected a function from a list of "
            "parameters to a torch.optim.Optimizer"
        )
    return type(made).__name__, made


class FusedSteps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One kernel that makes nothing stands for a whole step. Some of them have no form
    on meta.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if schema(func).name.startswith("aten::_fused_"):
            return None
        return func(*args, **(kwargs or {}))


class OptimizerStep:
    """An optimizer after its first step, over meta tensors: its state is entered in the
    tracker's log, the gradients are gone. Which implementation torch takes by default,
    and what it makes, is that of `device`: on a GPU all parameters at once (`foreach`),
    with copies of some; on the CPU one parameter after the other.

    Raises InputError where the optimizer cannot be made or does not take a step.
    """

    def __init__(
        self,
        wanted: str | Callable[..., Any],
        parameters: Sequence[Tensor],
        device: str,
        tracker: Tracker,
    ) -> None:
        self.tracker = tracker
        self.device = device
        self.name = wanted if isinstance(wanted, str) else "the optimizer"
        tracker.phase = "first step"
        begin = len(tracker.log.records)
        with self._as_on_device():
            self.name, made = chosen_optimizer(wanted, parameters)
        for tensor in tensors(list(made.state.values())):
            if tensor.is_meta:  # made with the optimizer, as Adagrad does
                tracker.log.record(tensor, None, tracker.phase)
        self.optimizer: torch.optim.Optimizer | Lbfgs = made
        if isinstance(made, torch.optim.LBFGS):
            with tracker:
                self.optimizer = Lbfgs(parameters, made.defaults["history_size"])
        else:
            with tracker:
                for parameter in parameters:
                    parameter.grad = torch.empty_like(parameter)
            self._step()
            with tracker:
                for parameter in parameters:
                    parameter.grad = None
            for state in made.state.values():
                if "step" in state:
                    state["step"] += LATER
        for record in tracker.log.records[begin:]:
            if record.alive:
                record.label = "optimizer state"

    def step(self) -> None:
        """A step with the gradients that are there. Raises InputError where the
        optimizer does not take them.
        """
        self.tracker.phase = "step"
        self._step()

    def _step(self) -> None:
        fused = FusedSteps()  # type: ignore[no-untyped-call]
        with self._as_on_device(), self.tracker, fused, torch.no_grad():
            run_operator(self.optimizer.step, (), {})

    @contextmanager
    def _as_on_device(self) -> Iterator[None]:
        """Inside, torch's optimizers do what they do there, and what they refuse is an
        InputError.
        """
        try:
            with optimizers_take_meta(self.device):
                yield
        except ZooError:
            raise
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
