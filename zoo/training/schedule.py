"""The course of the learning rate."""

from __future__ import annotations

import math

import torch


class Schedule(torch.optim.lr_scheduler.LambdaLR):
    def end_epoch(self, value: float) -> None:
        pass


def warmup_cosine(optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.1) -> Schedule:
    """The learning rate rises over the first tenth of all steps and falls to zero along
    a cosine (SGDR, arXiv:1608.03983, eq. 5).
    """
    rising = max(int(warmup * steps), 1)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))

    return Schedule(optimizer, factor)
