"""Memory of a step that is really run: torch's own record on a GPU, the profiler's
record of the allocator on the CPU.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.count.memory import default_loss
from zoo.count.meta import tensors
from zoo.count.optimizers import make_optimizer

LIBRARY = {  # calls whose kernels take memory for themselves: what they make and free again is the library's
    f"aten::{name}"
    for name in (
        "convolution",
        "convolution_backward",
        "mkldnn_rnn_layer",
        "mkldnn_rnn_layer_backward",
        "addmm",
        "mm",
        "bmm",
        "baddbmm",
    )
}


STEP = "zoo: the measured step"


@dataclass(frozen=True)
class Measured:
    """Bytes at the peak of one step after the first, parameters and all included, and
    how many of them a library held for itself.
    """

    peak: int
    workspace: int


def measure(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    mode: str = "train",
    optimizer: str | Callable[..., Any] | None = "momentum",
    autocast: torch.dtype | None = None,
    loss: Callable[[Any], Tensor] | None = None,
) -> Measured:
    """Run a model two steps where it is, and take the peak of the second. It is trained
    by that: give one to use up.

    On a GPU nothing else may be running, and `workspace` has what its libraries go on
    holding, too.
    """
    device = next(model.parameters()).device
    training = mode == "train"
    model.train(training)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = (
        make_optimizer(optimizer, parameters, device.type)[1]
        if training and optimizer is not None
        else None
    )

    def forward() -> Any:
        with (
            torch.set_grad_enabled(training),
            torch.autocast(device.type, autocast) if autocast else nullcontext(),
        ):
            output = model(*args, **kwargs)
            return (loss or default_loss)(output) if training else output

    def closure() -> Any:
        for parameter in parameters:
            parameter.grad = None
        objective = forward()
        objective.backward()
        return objective

    def step() -> None:
        if not training:
            forward()
        elif isinstance(stepper, torch.optim.LBFGS):
            stepper.step(closure)  # type: ignore[no-untyped-call]
        else:
            closure()
            if stepper:
                stepper.step()

    def fresh() -> None:
        step()
        for parameter in parameters:
            parameter.grad = None
        gc.collect()

    if device.type == "cuda":
        fresh()
        fresh()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        known = _sizes(model, args, kwargs, stepper)
        for parameter in parameters:
            parameter.grad = None
        gc.collect()
        held = torch.cuda.memory_allocated(device) - known
        made, without = _recorded(fresh, step, device.type)
        return Measured(peak, held + made - without)
    static = _sizes(model, args, kwargs, stepper)  # Adagrad makes its state at once
    made, without = _recorded(fresh, step, device.type)
    return Measured(static + made, made - without)


def _recorded(fresh: Callable[[], None], step: Callable[[], None], device: str) -> tuple[int, int]:
    """What the profiler saw of a step after another: the most bytes that both made, and
    that without a library's own.
    """
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as record:
        fresh()
        with torch.profiler.record_function(STEP):
            step()
    tree = record.profiler.kineto_results.experimental_event_tree()
    events = sorted(_allocations(tree, device), key=lambda event: event.time)
    begin = next(event.start_time_ns for event in tree if event.name == STEP)
    return _peak(events, begin, set()), _peak(events, begin, _workspaces(events))


def _sizes(model: nn.Module, args: Any, kwargs: Any, stepper: Any) -> int:
    """Bytes of what is there before a step, each storage once."""
    held = [*model.parameters(), *model.buffers(), *tensors((args, dict(kwargs)))]
    if stepper:
        held += [
            tensor for state in stepper.state.values() for tensor in tensors(list(state.values()))
        ]
    return sum(
        {
            id(storage): storage.nbytes()
            for tensor in held
            for storage in [tensor.untyped_storage()]
            if tensor.device.type != "meta"
        }.values()
    )


@dataclass(frozen=True, slots=True)
class _Allocation:
    """One entry of the allocator's record: bytes, negative when freed, and the number
    of the library's call that it happened in.
    """

    time: int
    size: int
    address: int
    call: int


def _allocations(events: Any, device: str, call: int = 0) -> Iterator[_Allocation]:
    for event in events:
        if event.tag == torch._C._profiler._EventType.Allocation:
            if event.extra_fields.device.type == device:
                yield _Allocation(
                    event.start_time_ns, event.extra_fields.alloc_size, event.extra_fields.ptr, call
                )
        else:
            inside = call or (event.start_time_ns if event.name in LIBRARY else 0)
            yield from _allocations(event.children, device, inside)


def _workspaces(events: list[_Allocation]) -> set[int]:
    """The places of what a library's call both made and freed."""
    found: set[int] = set()
    made: dict[int, tuple[int, int]] = {}  # address -> place, call
    for place, event in enumerate(events):
        if event.size > 0:
            made[event.address] = place, event.call
        elif event.address in made:
            start, call = made.pop(event.address)
            if call and call == event.call:
                found |= {start, place}
    return found


def _peak(events: list[_Allocation], begin: int, without: set[int]) -> int:
    """The most bytes from the time `begin` on."""
    size = peak = 0
    for place, event in enumerate(events):
        if place not in without:
            size += event.size
            peak = max(peak, size) if event.time >= begin else size
    return peak
