"""How much memory a network needs, and which batch fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.api.source import Source, resolve
from zoo.api.workload import meta_workload, real_workload
from zoo.errors import UsageError, check_choice, warn

if TYPE_CHECKING:
    import os

    import torch
    from torch import Tensor, nn

    from zoo.count.memory.predict import Memory
    from zoo.count.workload import Workload
    from zoo.training.run import Run


def memory(
    what: str | os.PathLike[str] | Run | nn.Module,
    batch_size: int = 1,
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

    `what`, its input and `model_args` are those of `profile`. `dtype`: of parameters
    and inputs (`torch.bfloat16` or "bfloat16"); `autocast`: mixed precision in this
    type. `optimizer`: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lbfgs,
    each as in training, a function that makes one of a list of parameters, or None.
    `checkpointing`: stages are computed again in the backward pass instead of saved.
    `device`: whose kernels and allocator, "cuda" or "cpu". `loss`: from the output to a
    scalar; default: that of the network's task, else cross-entropy of logits and the
    sum of anything else.

    A training step begins without gradients and with the optimizer's state in place, as
    every one but the first does. Raises UsageError when the input of a module is not
    known, and InputError when the model does not take it.
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
    return step.predict(batch_size)


def max_batch_size(
    what: str | os.PathLike[str] | Run | nn.Module,
    memory: str | int = "auto",
    mode: str = "train",
    *,
    input_size: int | str | tuple[int, ...] | None = None,
    dtype: torch.dtype | str | None = None,
    autocast: torch.dtype | str | None = None,
    optimizer: str | Callable[..., Any] | None = "momentum",
    checkpointing: bool = False,
    device: str = "cuda",
    loss: Callable[[Any], Tensor] | None = None,
    confirm: bool = False,
    **model_args: Any,
) -> int:
    """The largest batch whose step is predicted to fit; 0 when not even one example
    does.

    `memory`: of the card, "24GiB", "80GB" or bytes, of which a part is left for the
    driver and the libraries; or "auto": what is free now on this machine. `confirm`:
    with a GPU, run the step, and take a smaller batch while it does not fit. The rest
    is that of `memory`.
    """
    import torch

    from zoo.count.memory.batch_size import largest_batch
    from zoo.count.memory.confirm import confirm_batch
    from zoo.count.memory.memory_budget import available_bytes

    step = Step(
        resolve(what),
        mode=mode,
        input_size=input_size,
        dtype=dtype,
        autocast=autocast,
        optimizer=optimizer,
        checkpointing=checkpointing,
        device=device,
        loss=loss,
        model_args=model_args,
    )
    capacity = available_bytes(memory, device)
    if confirm and (device != "cuda" or not torch.cuda.is_available()):
        raise UsageError(
            "confirm=True runs the step on a GPU, and there is none: leave it out for the "
            "prediction"
        )
    batch = largest_batch(lambda size: step.predict(size, capacity), capacity)
    return confirm_batch(batch, step.run) if confirm else batch


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

    def predict(self, batch_size: int, capacity: int | None = None) -> Memory:
        from zoo.count.isolation import counting
        from zoo.count.memory.predict import predict_memory

        with counting():
            made = meta_workload(
                self.source, self.input_size, batch_size, inputs=self.inputs, **self.model_args
            )
            workload = self._ready(made)
            return predict_memory(
                workload, device=self.device, capacity=capacity, **self._options(workload)
            )

    def run(self, batch_size: int) -> None:
        """Run it on the GPU. Raises torch.OutOfMemoryError."""
        import torch

        from zoo.count.memory.measured_memory import measure

        with torch.inference_mode(False):
            made = real_workload(
                self.source, self.input_size, batch_size, device="cuda", **self.model_args
            )
            workload = self._ready(made)
            measure(workload, **self._options(workload))

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
