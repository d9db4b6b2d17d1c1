"""How images lie in memory while a network only evaluates them."""

from __future__ import annotations

import torch
from torch import Tensor


def evaluation_layout(images: Tensor) -> Tensor:
    """Images on the CPU (N, C, H, W) in NHWC: torch's convolutions then compute in that
    layout, faster in evaluation, and the same within rounding. Others as they are.
    """
    if images.ndim != 4 or images.device.type != "cpu":
        return images
    return images.to(memory_format=torch.channels_last)
