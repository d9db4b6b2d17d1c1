"""Whether a step that is predicted to fit really runs on the GPU of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def confirm_batch(batch_size: int, step: Callable[[int], Any]) -> int:
    """The largest batch, from `batch_size` downwards in steps of 2 %, whose `step` runs
    without running out of the GPU's memory; 0 when not even one example does.
    """
    while batch_size:
        if _fits(step, batch_size):
            return batch_size
        torch.cuda.empty_cache()  # what the step had made is let go only now
        batch_size -= max(1, batch_size // 50)
    return 0


def _fits(step: Callable[[int], Any], batch_size: int) -> bool:
    try:
        step(batch_size)
    except torch.OutOfMemoryError:
        return False
    return True
