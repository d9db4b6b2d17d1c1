"""What a network makes of a batch of real numbers: mean and standard deviation of each
output, and dead ReLUs; and what a training step on it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.count.formulas import MACS
from zoo.count.gradient_stats import MakeOptimizer, StateGradients, with_gradients
from zoo.count.isolation import first_line, is_own_fault, own_fault
from zoo.count.meta import tensors
from zoo.count.module_table import Row
from zoo.count.profile import Profile
from zoo.count.torch_internals import plain_call, run_operator, schema
from zoo.count.workload import Workload, set_mode
from zoo.errors import InputError, UsageError


@dataclass(slots=True, eq=False)
class Record:
    """The outputs of all calls of one module, and the ReLUs that ran in it, outside of
    modules below it.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of the squared distances from the mean
    units: int = 0
    dead: int = 0

    def add(self, tensor: Tensor) -> None:
        if not tensor.is_floating_point() or not tensor.numel():
            return
        values = tensor if tensor.dtype is torch.float64 else tensor.float()
        variance, mean = torch.var_mean(values, correction=0)
        count, distance = tensor.numel(), mean.item() - self.mean
        between = distance**2 * self.count * count / (self.count + count)
        self.squares += variance.item() * count + between
        self.count += count
        self.mean += distance * count / self.count


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what each module gives, and each ReLU, be it a module or a function."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.records = {path: Record() for path, _ in model.named_modules()}
        self._running: list[Record] = []
        self._sequence = False  # whether the last layer with weights was a matrix product
        for path, module in model.named_modules():
            module.register_forward_pre_hook(partial(self._enter, self.records[path]), prepend=True)
            module.register_forward_hook(partial(self._leave, self.records[path]), always_call=True)

    def _enter(self, record: Record, module: nn.Module, args: Any) -> None:
        self._running.append(record)

    def _leave(self, record: Record, module: nn.Module, args: Any, output: Any) -> None:
        while self._running.pop() is not record:  # an exception skipped some
            pass
        for tensor in tensors(output):
            record.add(tensor.detach())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = run_operator(func, args, kwargs or {})
        name = schema(func).name.removesuffix("_")
        if name in MACS:
            self._sequence = name != "aten::convolution"
        elif self._running and (
            name in ("aten::relu", "aten::relu6")
            or (name == "aten::hardtanh" and args[1:2] in ((0,), [0]))
        ):
            alive = output.ne(0).movedim(self._unit(output), 0).flatten(1).any(1)
            self._running[-1].units += len(alive)
            self._running[-1].dead += len(alive) - int(alive.sum())
        return output

    def _unit(self, output: Tensor) -> int:
        """The dimension of units or channels: (N, C, …), or (N, T, C) where a matrix
        product made it.
        """
        return -1 if output.ndim < 3 or (output.ndim == 3 and self._sequence) else 1


def with_stats(
    profile: Profile,
    workload: Workload,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    make_optimizer: MakeOptimizer,
) -> Profile:
    """The profile with `mean`, `std` and `dead` of every row, from one pass with real
    numbers, and in mode "train" with `gradient` and `update`, from a step with `loss`
    (None: `default_loss`) and the optimizer that `make_optimizer` gives for the module.
    The workload's module is modified in place; pass a copy.

    Raises UsageError for a module without numbers, InputError when it does not take
    these.
    """
    if workload.on_meta:
        raise UsageError(
            f"{profile.name} is on the meta device: statistics need a network with numbers"
        )
    model = workload.module
    set_mode(model, profile.mode)
    training = profile.mode == "train"
    states = StateGradients(model) if training else None
    watch = Watch(model)
    try:
        with torch.set_grad_enabled(training), watch:
            output = plain_call(model, *workload.args, **workload.kwargs)
    except Exception as error:
        if is_own_fault(error):
            raise own_fault(profile.name, error) from error
        raise InputError(f"{profile.name} does not take this batch: {first_line(error)}") from error
    profile = replace(profile, rows=tuple(_row(row, watch.records) for row in profile.rows))
    if states is None:
        return profile
    with torch.enable_grad():
        return with_gradients(profile, model, output, states, loss, make_optimizer)


def _row(row: Row, records: Mapping[str, Record]) -> Row:
    own = records.get(row.path, Record())
    inside = [
        record
        for path, record in records.items()
        if not row.path or f"{path}.".startswith(f"{row.path}.")
    ]
    units = sum(record.units for record in inside)
    return replace(
        row,
        mean=own.mean if own.count else None,
        std=sqrt(own.squares / own.count) if own.count else None,
        dead=sum(record.dead for record in inside) / units if units else None,
    )
