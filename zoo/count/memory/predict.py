"""Memory of an inference pass or a training step, predicted by following the life of
every storage over meta tensors.

A training step is the usual loop, after the first one: the gradients are None, forward
pass, loss, backward pass, optimizer step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.count.drop_path import disable_drop_path
from zoo.count.memory.allocator import replay, rounded
from zoo.count.memory.autocast import Autocast
from zoo.count.memory.device_kernels import Kernels
from zoo.count.memory.optimizer_step import OptimizerStep
from zoo.count.meta import shapes, tensors
from zoo.count.storage_log import StorageLog, StorageRecord
from zoo.count.torch_internals import run_operator
from zoo.count.tracker import Tracker
from zoo.count.workload import Workload, say_frozen, set_mode
from zoo.errors import InputError
from zoo.formatting import Printable, Section, Table, mib

KINDS = (
    "parameters",
    "buffers",
    "optimizer state",
    "inputs",
    "gradients",
    "activations",
    "temporary",
)


@dataclass(frozen=True)
class ModuleMemory:
    """Bytes that one module, with all below it, makes and saves for the backward
    pass.
    """

    path: str
    kind: str
    level: int
    activations: int


@dataclass(frozen=True, repr=False)
class Memory(Printable):
    """Bytes, predicted. `peak`: the most that are allocated at one moment of the step,
    `at_peak` by kind, `peak_phase` and `peak_module` where that is. `activations`: what
    the forward pass saves for the backward pass, each storage once, without parameters
    and inputs. `temporary`: what is made and freed again within the step. `reserved`:
    what torch's caching allocator takes from the GPU for it, of no more than a capacity
    that was given and that suffices; None on the CPU. Not included: the GPU's own
    context, and what its libraries take as their workspace. `unchecked`: what of this
    was never held against a GPU, "" for nothing.
    """

    name: str
    device: str
    mode: str
    inputs: tuple[Any, ...]  # shapes
    dtype: str  # of the parameters
    autocast: str  # dtype of the autocast, "" for none
    optimizer: str
    parameters: int
    buffers: int
    gradients: int
    optimizer_state: int
    input_bytes: int
    activations: int
    temporary: int  # at the peak
    peak: int
    peak_phase: str  # forward, backward or step
    peak_module: str  # path; "" where it is outside of the modules
    at_peak: Mapping[str, int]
    reserved: int | None
    fits: bool | None  # into the capacity that was given
    rows: tuple[ModuleMemory, ...]
    unchecked: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def whole(self) -> dict[str, int]:
        """Bytes by kind, whenever they are there: all but the temporary ones."""
        return {
            "parameters": self.parameters,
            "buffers": self.buffers,
            "optimizer state": self.optimizer_state,
            "inputs": self.input_bytes,
            "gradients": self.gradients,
            "activations": self.activations,
        }

    def sections(self, depth: int = 2) -> list[Section]:
        """The bytes by kind, of the modules down to this level of the tree, and the
        peak.
        """
        whole = self.whole()
        kinds = [
            [kind, mib(whole[kind]) if kind in whole else "", mib(size)]
            for kind, size in self.at_peak.items()
            if size or whole.get(kind)
        ]
        peak = ["peak", "", mib(self.peak)]
        found: list[Section] = [Table(["MiB", "whole", "at the peak"], [*kinds, peak], ["MiB"])]
        modules = [
            ["  " * row.level + row.path.rpartition(".")[2], row.kind, mib(row.activations)]
            for row in self.rows
            if 0 < row.level <= depth and row.activations
        ]
        if modules:
            headers = ["module", "kind", "activations saved, MiB"]
            found.append(Table(headers, modules, headers[:2]))
        lines = [self.summary()]
        if self.reserved is not None:
            lines.append(
                f"torch's caching allocator takes up to {mib(self.reserved)} MiB of the card for "
                "it; the driver and libraries come on top"
            )
        if self.unchecked:
            lines.append(self.unchecked)
        return [*found, "\n".join(lines)]

    def summary(self) -> str:
        """The peak in one line."""
        where = f" in {self.peak_module}" if self.peak_module else ""
        kinds = ", ".join(f"{kind} {mib(size)} MiB" for kind, size in self.at_peak.items() if size)
        return (
            f"{self.name}, {self.mode} on {self.device}: peak {mib(self.peak)} MiB ({kinds}), "
            f"in the {self.peak_phase} pass{where}"
        )


def predict_memory(
    workload: Workload,
    *,
    mode: str = "train",
    device: str = "cuda",
    autocast: torch.dtype | None = None,
    optimizer: str | Callable[..., Any] | None = "momentum",
    loss: Callable[[Any], Tensor] | None = None,
    capacity: int | None = None,
) -> Memory:
    """The memory of one step of a workload on the meta device. Its module is modified
    in place; pass a copy.

    `mode`: "train" or "eval". `optimizer`: a name of zoo.optimizers, a function from
    parameters to an optimizer, or None. `loss`: from the output to a scalar; None is
    `default_loss`. `capacity`: bytes that there are, for `fits` and `reserved`. Raises
    InputError when the module does not take the input.
    """
    model, log = workload.module, StorageLog()
    training = mode == "train"
    say_frozen(workload.name, set_mode(model, mode))
    tracker = Tracker(model, workload.name, log)
    tracker.register(workload.args, workload.kwargs)
    if training:
        disable_drop_path(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    step = None
    if training and optimizer is not None and parameters:
        step = OptimizerStep(optimizer, parameters, device, tracker)
    begin = len(log.events)
    tracker.phase = "forward"
    lower = Autocast(autocast, device)
    with torch.set_grad_enabled(training), Kernels(device), lower:
        output = tracker.forward(workload.args, workload.kwargs)
        with tracker.stage("the loss"):
            objective = run_operator(loss or default_loss, (output,), {}) if training else None
        lower.forget()
    if training:
        del output
        tracker.assign_saved()
        if objective is None or not objective.requires_grad:
            raise InputError(
                f"{workload.name}: nothing in its output has a gradient: there is no training "
                "step to predict"
            )
        saved = [record for record in log.records if record.alive and not record.label]
        with Kernels(device):
            tracker.backward(objective)
        del objective
        for record in saved:
            record.label = "activations"
        for parameter in parameters:
            if parameter.grad is not None:
                log.record(parameter.grad, None, "", "gradients")
        if step:
            step.step()
    tracker.aggregate()
    peak = _peak(log, begin, device)
    reserved, fits = _reserved(log, peak.size, capacity, device)
    types = {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()}
    sums = dict.fromkeys(KINDS, 0)
    for record in log.records:
        if record.label:
            sums[record.label] += rounded(record.size, device)
    return Memory(
        name=workload.name,
        device=device,
        mode=mode,
        inputs=shapes((workload.args, dict(workload.kwargs))),
        dtype=", ".join(sorted(types)),
        autocast=str(autocast or "").removeprefix("torch."),
        optimizer=step.name if step else "",
        parameters=sums["parameters"],
        buffers=sums["buffers"],
        gradients=sums["gradients"],
        optimizer_state=sums["optimizer state"],
        input_bytes=sums["inputs"],
        activations=sums["activations"],
        temporary=peak.kinds["temporary"],
        peak=peak.size,
        peak_phase=peak.moment.phase if peak.moment else "forward",
        peak_module=peak.moment.call.owner.path if peak.moment and peak.moment.call else "",
        at_peak=peak.kinds,
        reserved=reserved,
        fits=fits,
        rows=tuple(
            ModuleMemory(counts.path, type(counts.module).__name__, counts.level, counts.saved)
            for counts in tracker.modules
        ),
    )


def default_loss(output: Any) -> Tensor | None:
    """The cross-entropy of logits (N, classes), the sum of anything else; of several
    outputs the sum of theirs.
    """
    total = None
    for tensor in tensors(output):
        if tensor.requires_grad:
            if tensor.ndim == 2:
                targets = torch.zeros(len(tensor), dtype=torch.long, device=tensor.device)
                part = F.cross_entropy(tensor, targets)
            else:
                part = tensor.float().sum()
            total = part if total is None else total + part
    return total


@dataclass(frozen=True)
class _Peak:
    """The most bytes at one moment, by kind too, and the storage that was made then;
    None where that is before the step.
    """

    size: int
    kinds: Mapping[str, int]
    moment: StorageRecord | None


def _peak(log: StorageLog, begin: int, device: str) -> _Peak:
    """Replay the events; the step begins with the event number `begin`."""
    now, size = dict.fromkeys(KINDS, 0), 0
    peak, at_peak, place = -1, now, begin
    for number, (record, made) in enumerate(log.events):
        change = rounded(record.size, device) if made else -rounded(record.size, device)
        size += change
        now[record.label or "temporary"] += change
        if number + 1 >= begin and size > peak:
            peak, at_peak, place = size, dict(now), number
    return _Peak(peak, at_peak, log.events[place][0] if place >= begin else None)


def _reserved(
    log: StorageLog, peak: int, capacity: int | None, device: str
) -> tuple[int | None, bool | None]:
    """What a GPU's allocator takes, and whether all fits into the capacity, for which
    it gives back cached blocks before it gives up; None where there is no answer.
    """
    if device != "cuda":
        return None, None if capacity is None else peak <= capacity
    limited = None if capacity is None else replay(log.events, capacity)
    reserved = replay(log.events) if limited is None else limited
    return reserved, None if capacity is None else limited is not None
