"""Whether a step that is predicted to fit really runs on the GPU of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from zoo.count.memory.batch_size import Batches


def confirm_batch(batch_size: int, possible: Batches, step: Callable[[int], Any]) -> int:
    """The largest possible batch, from `batch_size` downwards in steps of 2 %, whose
    `step` runs without running out of the GPU's memory; 0 when not even the smallest
    does.
    """
    while batch_size:
        if _fits(step, batch_size):
            return batch_size
        torch.cuda.empty_cache()  # what the step had made is let go only now
        batch_size = possible.up_to(batch_size - max(1, batch_size // 50))
    return 0


@contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Inside, this process may take `size` bytes of the GPU besides what it has."""
    before = torch.cuda.get_per_process_memory_fraction()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    share = (size + torch.cuda.memory_reserved()) / total
    torch.cuda.set_per_process_memory_fraction(min(before, share))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before)


def _fits(step: Callable[[int], Any], batch_size: int) -> bool:
    try:
        step(batch_size)
    except torch.OutOfMemoryError:
        return False
    return True
