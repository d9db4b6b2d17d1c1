"""Memory of an inference pass or a training step, predicted by following the life of
every storage over meta tensors.

A training step is the usual loop, after the first one: the gradients are None, forward
pass, loss, backward pass, optimizer step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.count.allocator import replay, rounded
from zoo.count.device import Autocast, Kernels
from zoo.count.ledger import Ledger
from zoo.count.meta import shapes, tensors
from zoo.count.optimizers import Stepper
from zoo.count.report import keep_all
from zoo.count.text import mib
from zoo.count.tracker import Tracker
from zoo.errors import InputError

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
    """Bytes that one module, with all below it, makes and keeps for the backward
    pass.
    """

    path: str
    kind: str
    level: int
    activations: int


@dataclass(frozen=True)
class Memory:
    """Bytes, predicted. `peak`: the most that are allocated at one moment of the step,
    `at_peak` by kind, `peak_phase` and `peak_module` where that is. `activations`: what
    the forward pass keeps for the backward pass, each storage once, without parameters
    and inputs. `temporary`: what is made and freed again within the step. `reserved`:
    what torch's caching allocator takes from the GPU for it; None on the CPU. Not
    included: the GPU's own context, and what its libraries take as their workspace.
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
    rows: tuple[ModuleMemory, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        where = f" in {self.peak_module}" if self.peak_module else ""
        kinds = ", ".join(f"{kind} {mib(size)} MiB" for kind, size in self.at_peak.items() if size)
        return f"{self.name}, {self.mode} on {self.device}: peak {mib(self.peak)} MiB ({kinds}), in the {self.peak_phase} pass{where}"


def predict(
    model: nn.Module,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    mode: str = "train",
    device: str = "cuda",
    autocast: torch.dtype | None = None,
    optimizer: str | Callable[..., Any] | None = "momentum",
    loss: Callable[[Any], Tensor] | None = None,
    capacity: int | None = None,
) -> Memory:
    """The memory of one step of a model on the meta device, which is ours to use up.

    `optimizer`: a name of OPTIMIZERS, a function from parameters to an optimizer, or
    None. `loss`: from the output to a scalar. `capacity`: bytes that there are, for
    `fits`. Raises InputError when the model does not take the input.
    """
    ledger = Ledger()
    inputs = shapes((args, dict(kwargs)))
    training = mode == "train"
    model.train(training)
    tracker = Tracker(model, name, ledger)
    tracker.register(args, kwargs)
    if training:
        keep_all(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = (
        Stepper(optimizer, parameters, device, tracker)
        if training and optimizer is not None and parameters
        else None
    )
    begin = len(ledger.events)
    tracker.phase = "forward"
    lower = Autocast(autocast, device) if autocast else nullcontext()
    with torch.set_grad_enabled(training), Kernels(device), lower:
        output = tracker.forward(args, kwargs)
        del args, kwargs
        with tracker:
            objective = (loss or default_loss)(output) if training else None
        if isinstance(lower, Autocast):
            lower.forget()
    if training:
        del output
        tracker.keep()
        if objective is None or not objective.requires_grad:
            raise InputError(
                f"{name}: nothing in its output has a gradient: there is no training step to predict"
            )
        kept = [block for block in ledger.blocks if block.alive and not block.label]
        with Kernels(device):
            tracker.backward(objective)
        del objective
        for block in kept:
            block.label = "activations"
        for parameter in parameters:
            if parameter.grad is not None:
                ledger.see(parameter.grad, None, "", "gradients").label = "gradients"
        if stepper:
            stepper.step()
    return _report(tracker, begin, device, mode, autocast, stepper, inputs, capacity)


def default_loss(output: Any) -> Tensor | None:
    """The cross-entropy of logits (N, classes), the sum of anything else; of several
    outputs the sum of theirs.
    """
    total = None
    for tensor in tensors(output):
        if tensor.requires_grad:
            if tensor.ndim == 2:
                one = F.cross_entropy(
                    tensor, torch.zeros(len(tensor), dtype=torch.long, device=tensor.device)
                )
            else:
                one = tensor.float().sum()
            total = one if total is None else total + one
    return total


def _report(
    tracker: Tracker,
    begin: int,
    device: str,
    mode: str,
    autocast: torch.dtype | None,
    stepper: Stepper | None,
    inputs: tuple[Any, ...],
    capacity: int | None,
) -> Memory:
    """Replay the events; the step begins with the event number `begin`."""
    assert tracker.ledger
    events = tracker.ledger.events
    sums = dict.fromkeys(KINDS, 0)
    for block in tracker.ledger.blocks:
        if block.label:
            sums[block.label] += rounded(block.size, device)
    now, size = dict.fromkeys(KINDS, 0), 0
    peak, at_peak, place = -1, now, begin
    for number, (block, made) in enumerate(events):
        change = rounded(block.size, device) * (1 if made else -1)
        size += change
        now[block.label or "temporary"] += change
        if number + 1 >= begin and size > peak:
            peak, at_peak, place = size, dict(now), number
    moment = events[place][0] if place >= begin else None
    reserved = replay(events) if device == "cuda" else None
    fits = (
        None
        if capacity is None
        else replay(events, capacity) is not None
        if device == "cuda"
        else peak <= capacity
    )
    tracker.sum_up()
    dtypes = {
        str(parameter.dtype).removeprefix("torch.") for parameter in tracker.model.parameters()
    }
    return Memory(
        name=tracker.name,
        device=device,
        mode=mode,
        inputs=inputs,
        dtype=", ".join(sorted(dtypes)),
        autocast=str(autocast or "").removeprefix("torch."),
        optimizer=stepper.name if stepper else "",
        parameters=sums["parameters"],
        buffers=sums["buffers"],
        gradients=sums["gradients"],
        optimizer_state=sums["optimizer state"],
        input_bytes=sums["inputs"],
        activations=sums["activations"],
        temporary=at_peak["temporary"],
        peak=peak,
        peak_phase=moment.phase if moment else "forward",
        peak_module=moment.frame.node.path if moment and moment.frame else "",
        at_peak=at_peak,
        reserved=reserved,
        fits=fits,
        rows=tuple(
            ModuleMemory(
                node.path,
                type(node.module).__name__,
                node.path.count(".") + 1 if node.path else 0,
                node.kept,
            )
            for node in tracker.nodes
        ),
    )


def largest_batch(step: Callable[[int], Memory], capacity: int, most: int = 2**20) -> int:
    """The largest batch whose step fits into `capacity` bytes, 0 for none; at most
    `most`; above 200 to within half a percent.

    `step` predicts the memory for a batch. It grows nearly linearly: so the line
    through batches of one and two says about where the answer lies, and from there the
    interval is widened until it holds the answer, then halved.
    """
    one = step(1)
    if not one.fits or most == 1:
        return int(bool(one.fits))
    slope = max(step(2).peak - one.peak, 1)
    low, high = 1, most + 1
    batch = min(max(2, 1 + (capacity - one.peak) // slope), most)
    width = max(1, batch // 50)
    while high - low > max(1, low // 200):
        if step(batch).fits:
            low, outward = batch, batch + width
        else:
            high, outward = batch, batch - width
        width *= 2
        batch = outward if low < outward < high and (low == 1 or high > most) else (low + high) // 2
    return low
