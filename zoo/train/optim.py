"""Optimizers with defaults that train the classic networks from scratch, and the
learning rate's course.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from zoo.errors import InputError

DEFAULTS = {"adamw": (1e-3, 0.01), "sgd": (0.01, 5e-4)}  # learning rate, weight decay


def make_optimizer(
    name: str,
    groups: Iterable[dict[str, Any]],
    lr: float | None = None,
    weight_decay: float | None = None,
) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9, over parameter groups; a group that
    names its own weight decay keeps it.
    """
    if name not in DEFAULTS:
        raise InputError(f"optimizer={name!r}: choose one of {', '.join(DEFAULTS)}")
    default_lr, default_decay = DEFAULTS[name]
    lr = default_lr if lr is None else lr
    weight_decay = default_decay if weight_decay is None else weight_decay
    if not (lr > 0 and weight_decay >= 0):
        raise InputError(
            f"lr={lr}, weight_decay={weight_decay}: needs lr > 0 and weight_decay >= 0"
        )
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weights, which decay, and the rest, which does not: biases, batch norms, and what
    the network's `no_weight_decay()` names.
    """
    spared: set[str] = getattr(model, "no_weight_decay", set)()
    trained = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    if not trained:
        raise InputError(
            f"{type(model).__name__} has no parameter that requires a gradient: nothing can be trained"
        )
    kept = [
        parameter
        for name, parameter in trained.items()
        if parameter.ndim > 1 and name not in spared
    ]
    rest = [
        parameter
        for name, parameter in trained.items()
        if not (parameter.ndim > 1 and name not in spared)
    ]
    return [
        group
        for group in ({"params": kept}, {"params": rest, "weight_decay": 0.0})
        if group["params"]
    ]


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.1
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate rises over the first tenth of all steps and falls to zero along
    a cosine (SGDR, arXiv:1608.03983, eq. 5).
    """
    rising = max(int(warmup * steps), 1)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
