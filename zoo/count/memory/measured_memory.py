"""Memory of a step that is really run: torch's own record on a GPU, the profiler's
record of the allocator on the CPU.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.count.memory.optimizer_step import chosen_optimizer
from zoo.count.memory.predict import default_loss
from zoo.count.meta import tensors
from zoo.count.torch_internals import Allocation, allocations, event_tree, storage_address
from zoo.count.workload import Workload, set_mode

# Calls whose kernels take memory for themselves: what they make and free again is the
# library's.
LIBRARY = {
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
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    )
}
STEP = "zoo: the measured step"


@dataclass(frozen=True)
class Measured:
    """Bytes at the peak of one step after the first, parameters and all included; how
    many of them a library held for itself; and how many a GPU's allocator gave beyond
    what was asked for, as it does not split off less than a MiB of a large block.
    """

    peak: int
    workspace: int
    unsplit: int = 0

    @property
    def tensors(self) -> int:
        """What the network's own tensors asked for, which is what is predicted."""
        return self.peak - self.workspace - self.unsplit


def measure(
    workload: Workload,
    *,
    mode: str = "train",
    optimizer: str | Callable[..., Any] | None = "momentum",
    autocast: torch.dtype | None = None,
    loss: Callable[[Any], Tensor] | None = None,
) -> Measured:
    """Run a workload with numbers two steps where it is, and take the peak of the
    second. Its module is trained by that; pass a copy.

    On a GPU nothing else may be running, and `workspace` has what its libraries go on
    holding, too.
    """
    model = workload.module
    device = next(model.parameters()).device
    training = mode == "train"
    set_mode(model, mode)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper: Any = None
    if training and optimizer is not None:
        _, stepper = chosen_optimizer(optimizer, parameters)

    def forward() -> Any:
        lower = torch.autocast(device.type, autocast) if autocast else nullcontext()
        with torch.set_grad_enabled(training), lower:
            output = model(*workload.args, **workload.kwargs)
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
        unsplit = _unsplit(device, "peak")
        known = _sizes(workload, stepper)
        for parameter in parameters:
            parameter.grad = None
        gc.collect()
        held = torch.cuda.memory_allocated(device) - known
        unsplit -= _unsplit(device, "current")  # which is in `held`
        made, without = _recorded(fresh, step, device.type)
        return Measured(peak, held + made - without, max(unsplit, 0))
    static = _sizes(workload, stepper)  # Adagrad makes its state at once
    made, without = _recorded(fresh, step, device.type)
    return Measured(static + made, made - without)


def _unsplit(device: torch.device, when: str) -> int:
    """What the GPU's allocator gave beyond what was asked for."""
    stats = torch.cuda.memory_stats(device)
    given, asked = (stats[f"{kind}_bytes.all.{when}"] for kind in ("allocated", "requested"))
    return int(given - asked)


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
    tree = event_tree(record)
    events = sorted(allocations(tree, device, LIBRARY), key=lambda event: event.time)
    begin = next(event.start_time_ns for event in tree if event.name == STEP)
    return _peak(events, begin, set()), _peak(events, begin, _workspaces(events))


def _sizes(workload: Workload, stepper: Any) -> int:
    """Bytes of what is there before a step, each storage once."""
    model = workload.module
    held = [*model.parameters(), *model.buffers()]
    held += tensors((workload.args, dict(workload.kwargs)))
    if stepper:
        for state in stepper.state.values():
            held += tensors(list(state.values()))
    storages = {
        storage_address(storage): storage.nbytes()
        for tensor in held
        for storage in [tensor.untyped_storage()]
        if tensor.device.type != "meta"
    }
    return sum(storages.values())


def _workspaces(events: list[Allocation]) -> set[int]:
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


def _peak(events: list[Allocation], begin: int, without: set[int]) -> int:
    """The most bytes from the time `begin` on."""
    size = peak = 0
    for place, event in enumerate(events):
        if place not in without:
            size += event.size
            peak = max(peak, size) if event.time >= begin else size
    return peak
