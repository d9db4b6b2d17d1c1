"""How much memory a network needs, and which batch fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from zoo.api.source import Source, resolve
from zoo.api.workload import meta_workload, real_workload
from zoo.errors import UsageError, check_choice, warn

if TYPE_CHECKING:
    import os

    import torch
    from torch import Tensor, nn

    from zoo.count.memory.batch_size import Largest
    from zoo.count.memory.predict import Memory
    from zoo.count.workload import Workload
    from zoo.training.run import Run


def memory(
    what: str | os.PathLike[str] | Run | nn.Module,
    batch_size: int | None = None,
    mode: str = "train",
    *,
    input_size: int | str | tuple[int, ...] | None = None,
    inputs: Any = None,
    dtype: torch.dtype | str | None = None,
    autocast: torch.dtype | str | None = None,
    optimizer: str | Callable[..., Any] | None = "momentum",
    checkpointing: bool = False,
    device: str = "cuda",
    loss: Callable[[Any], Tensor] | None = None,
    **model_args: Any,
) -> Memory:
    """Memory of a training step ("train") or an inference pass ("eval"), predicted in
    bytes without running it and without a GPU.

    `what`, its input and `model_args` are those of `profile`. `batch_size`: by default
    one example, or the fewest that the step takes, as batch norm cannot train on one
    value. `dtype`: of parameters
    and inputs (`torch.bfloat16` or "bfloat16"); `autocast`: mixed precision in this
    type. `optimizer`: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lbfgs,
    each as in training, a function that makes one of a list of parameters (any of
    torch.optim, `fused` or not), or None.
    `checkpointing`: stages are computed again in the backward pass instead of saved.
    `device`: whose kernels and allocator, "cuda" or "cpu". `loss`: from the output to a
    scalar; default: that of the network's task, else cross-entropy of logits and the
    sum of anything else.

    A training step begins without gradients and with the optimizer's state in place, as
    every one but the first does; parts that you put in evaluation mode by hand stay so.
    Raises UsageError when the input of a module is not known, and InputError when the
    model does not take it, or not this batch.
    """
    step = Step(
        resolve(what),
        mode=mode,
        input_size=input_size,
        inputs=inputs,
        dtype=dtype,
        autocast=autocast,
        optimizer=optimizer,
        checkpointing=checkpointing,
        device=device,
        loss=loss,
        model_args=model_args,
    )
    return step.smallest() if batch_size is None else step.predict(batch_size)


def max_batch_size(
    what: str | os.PathLike[str] | Run | nn.Module,
    memory: str | float = "auto",
    mode: str = "train",
    *,
    input_size: int | str | tuple[int, ...] | None = None,
    inputs: Any = None,
    dtype: torch.dtype | str | None = None,
    autocast: torch.dtype | str | None = None,
    optimizer: str | Callable[..., Any] | None = "momentum",
    checkpointing: bool = False,
    device: str = "cuda",
    loss: Callable[[Any], Tensor] | None = None,
    confirm: bool = False,
    **model_args: Any,
) -> int:
    """The largest batch whose step is predicted to fit; 0 when not even the smallest
    possible does; above 200 to within half a percent.

    `memory`: of the card, "24GiB", "80GB" or bytes; or "auto": what is free now on this
    machine. A number up to 4096 without a unit is GiB. `inputs`: an example, whose
    tensors have the batch as their first dimension, or a function from a batch size to
    the inputs. The rest is that of `memory`.

    What fits: all tensors of the step, in torch's caching allocator, with 800 MiB of
    the card left for the driver and the libraries. Not promised: a library may ask for
    more than that, and then fewer run (9 to 21 % fewer of both AlexNets).
    `confirm`: with a GPU, run the step within this much memory, and take a smaller
    batch, in steps of 2 %, while it does not fit.
    """
    found = find_largest(
        what,
        memory,
        confirm=confirm,
        mode=mode,
        input_size=input_size,
        inputs=inputs,
        dtype=dtype,
        autocast=autocast,
        optimizer=optimizer,
        checkpointing=checkpointing,
        device=device,
        loss=loss,
        model_args=model_args,
    )
    return found.batch_size


def find_largest(what: Any, memory: str | float, *, confirm: bool = False, **step: Any) -> Largest:
    """The same with the memory of the batch; `step`: fields of Step."""
    import torch

    from zoo.count.memory.batch_size import largest_batch
    from zoo.count.memory.confirm import confirm_batch, limited_memory
    from zoo.count.memory.memory_budget import LIBRARY_RESERVE, available_bytes
    from zoo.count.workload import inputs_per_batch

    if step.get("inputs") is not None:
        step["inputs"] = inputs_per_batch(step["inputs"])
    tried = Step(resolve(what), **step)
    capacity = available_bytes(memory, tried.device)
    if confirm and (tried.device != "cuda" or not torch.cuda.is_available()):
        raise UsageError(
            "confirm=True runs the step on a GPU, and there is none: leave it out for the "
            "prediction"
        )
    largest = largest_batch(lambda batch: tried.attempt(batch, capacity), capacity)
    if not confirm:
        return largest
    with limited_memory(capacity + LIBRARY_RESERVE):
        batch = confirm_batch(largest.batch_size, largest.possible, tried.run)
    return largest._replace(
        batch_size=batch, memory=tried.attempt(batch or largest.smallest, capacity)
    )


@dataclass(frozen=True)
class Step:
    """A step of a network, at any batch size; see `memory`."""

    source: Source
    _: KW_ONLY
    mode: str = "train"
    input_size: int | str | tuple[int, ...] | None = None
    inputs: Any = None
    dtype: torch.dtype | str | None = None
    autocast: torch.dtype | str | None = None
    optimizer: str | Callable[..., Any] | None = "momentum"
    checkpointing: bool = False
    device: str = "cuda"
    loss: Callable[[Any], Tensor] | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("zoo.memory", "mode", self.mode, ("train", "eval"))
        check_choice("zoo.memory", "device", self.device, ("cuda", "cpu"))

    def smallest(self) -> Memory:
        """The memory of the smallest batch that is possible, or of the `inputs`."""
        from zoo.count.memory.batch_size import smallest_batch

        return self.attempt(1) if self._has_batch else smallest_batch(self.attempt)[1]

    def predict(self, batch_size: int) -> Memory:
        """The memory of a batch. Raises InputError, which says what is possible."""
        from zoo.count.memory.batch_size import check_batch

        if self._has_batch:
            return self.attempt(batch_size)
        return check_batch(self.attempt, batch_size)

    def attempt(self, batch_size: int, capacity: int | None = None) -> Memory:
        """The same, which does not look for what is possible."""
        from zoo.count.isolation import counting
        from zoo.count.memory.checked import unchecked
        from zoo.count.memory.predict import predict_memory

        with counting():
            workload = self._ready(meta_workload(self.source, **self._inputs(batch_size)))
            found = predict_memory(
                workload, device=self.device, capacity=capacity, **self._options(workload)
            )
        origin = self.source.origin
        architecture = origin.architecture if origin and not self.source.part else ""
        return replace(found, unchecked=unchecked(architecture, self.device))

    def run(self, batch_size: int) -> None:
        """Run it on the GPU. Raises torch.OutOfMemoryError."""
        import torch

        from zoo.count.memory.measured_memory import measure

        with torch.inference_mode(False):
            made = real_workload(self.source, device="cuda", **self._inputs(batch_size))
            workload = self._ready(made)
            measure(workload, **self._options(workload))

    @property
    def _has_batch(self) -> bool:
        """Whether the inputs are of one batch, which cannot be another."""
        return self.inputs is not None and not callable(self.inputs)

    def _inputs(self, batch_size: int) -> dict[str, Any]:
        """What a workload takes for this batch."""
        batch = {"inputs": self.inputs, "batch_size": batch_size}
        if callable(self.inputs):
            batch = {"inputs": self.inputs(batch_size)}
        return {**self.model_args, **batch, "input_size": self.input_size}

    def _ready(self, workload: Workload) -> Workload:
        """With its stages checkpointed and in its type."""
        if self.dtype is not None:
            workload = workload.to(_dtype(self.dtype))
        if self.checkpointing:
            switch = getattr(workload.module, "set_grad_checkpointing", None)
            if not callable(switch):
                raise UsageError(
                    f"{workload.name} has no set_grad_checkpointing(): checkpointing=True is for "
                    "networks of zoo and timm"
                )
            switch(True)
        return workload

    def _options(self, workload: Workload) -> dict[str, Any]:
        """What a prediction and a real step have in common."""
        loss = self.loss or task_objective(self.source, workload.module, workload.args)
        autocast = None if self.autocast is None else _dtype(self.autocast)
        return {"mode": self.mode, "optimizer": self.optimizer, "autocast": autocast, "loss": loss}


def _dtype(given: torch.dtype | str) -> torch.dtype:
    import torch

    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UsageError(
            f"{given!r} is no floating-point type: give torch.float32, torch.bfloat16, "
            "torch.float16 or their names"
        )
    return found


def task_objective(
    source: Source, module: nn.Module, args: tuple[Any, ...]
) -> Callable[[Any], Tensor] | None:
    """The loss of a network's family, or of its task, as a function of the output for
    the inputs `args`; None where the task is not known, or for a part of a network.
    """
    if source.variant is None or source.family is None or source.part:
        return None
    from zoo.tasks import find_task

    found = find_task(source.task)
    if found is None:
        warn(
            f"no task {source.task!r} is registered: the loss is cross-entropy of logits, or "
            "the sum of anything else"
        )
        return None
    return found().example_loss(args, module, source.family.loss)
