"""The batch that fits on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.count.memory.batch_size import largest_batch
from zoo.count.memory.memory_budget import available_bytes
from zoo.count.memory.predict import Memory, predict_memory
from zoo.count.meta import copy_on_meta
from zoo.count.workload import Workload
from zoo.errors import UsageError, warn
from zoo.tasks.base import Task
from zoo.training.step import Loss

if TYPE_CHECKING:
    from accelerate import Accelerator

DEFAULT_BATCH = 32
MAX_AUTO_BATCH = 256  # the default rates are for batches of about this size or less


def free_bytes(device: str) -> int:
    """What a training step may take on this device now."""
    return available_bytes("auto", device)


def auto_batch_size(
    model: nn.Module,
    image: tuple[int, ...],
    count: int,
    *,
    task: Task,
    loss: Loss | None,
    optimizer: str,
    accelerator: Accelerator,
) -> int:
    """The largest batch of images of the shape `image`, without the batch, whose
    training step is predicted to fit, at most MAX_AUTO_BATCH and a tenth of all `count`
    images, or the smallest that the network can be trained on. Raises UsageError when
    not even that does.
    """
    device = accelerator.device.type
    if device not in ("cuda", "cpu"):
        warn(f"batch_size='auto' knows no {device}: {DEFAULT_BATCH} is taken")
        return DEFAULT_BATCH
    capacity = free_bytes(device)
    precision = str(accelerator.mixed_precision)

    def step(batch: int) -> Memory:
        return _step_memory(
            model,
            torch.empty(batch, *image, device="meta"),
            task=task,
            loss=loss,
            optimizer=optimizer,
            device=device,
            precision=precision,
            capacity=capacity,
        )

    found = largest_batch(step, capacity, min(MAX_AUTO_BATCH, count // 10))
    needed = found.memory.peak / 2**20
    if not found.batch_size:
        images = "one image" if found.smallest == 1 else f"a batch of {found.smallest}"
        raise UsageError(
            f"not even {images} fits into the {capacity / 2**20:,.0f} MiB that are free: "
            "take a smaller network or input_size"
        )
    warn(f"batch size {found.batch_size}: its training step is predicted to take {needed:,.0f} MiB")
    return found.batch_size


def _step_memory(
    model: nn.Module,
    images: torch.Tensor,
    *,
    task: Task,
    loss: Loss | None,
    optimizer: str,
    device: str,
    precision: str,
    capacity: int,
) -> Memory:
    """The memory of a training step: all that is asked of the counters."""
    network = copy_on_meta(model)
    return predict_memory(
        Workload(network, type(model).__name__, (images,)),
        device=device,
        autocast={"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision),
        optimizer=optimizer,
        loss=task.example_loss((images,), network, loss),
        capacity=capacity,
    )
