"""Initialisations by their papers' names. On the meta device they do nothing (and import nothing: torch's meta kernels cost seconds)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class SkipInit(TorchFunctionMode):
    """Inside it, torch's own random initialisation of new layers is left out, because ours follows anyway."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def fans(weight: Tensor) -> tuple[int, int]:
    """Fan-in and fan-out of a weight (out, in, *kernel)."""
    receptive = math.prod(weight.shape[2:])
    return weight.shape[1] * receptive, weight.shape[0] * receptive


def normal_(tensor: Tensor | None, std: float) -> None:
    """N(0, std²)."""
    if tensor is not None and not tensor.is_meta:
        nn.init.normal_(tensor, std=std)


def uniform_(tensor: Tensor | None, bound: float) -> None:
    """U(-bound, bound)."""
    if tensor is not None and not tensor.is_meta:
        nn.init.uniform_(tensor, -bound, bound)


def constant_(tensor: Tensor | None, value: float) -> None:
    if tensor is not None and not tensor.is_meta:
        nn.init.constant_(tensor, value)


def he_normal_(weight: Tensor) -> None:
    """N(0, 2 / fan-out): He et al. 2015 (arXiv:1502.01852), eq. 14, the backward-pass case."""
    normal_(weight, math.sqrt(2 / fans(weight)[1]))


def glorot_uniform_(weight: Tensor) -> None:
    """U(±sqrt(6 / (fan-in + fan-out))): Glorot and Bengio 2010, eq. 16."""
    uniform_(weight, math.sqrt(6 / sum(fans(weight))))


def reset_norm_(norm: nn.modules.batchnorm._BatchNorm) -> None:
    """Scale 1, shift 0, and statistics as before any batch."""
    for tensor, value in ((norm.weight, 1), (norm.bias, 0), (norm.running_mean, 0), (norm.running_var, 1), (norm.num_batches_tracked, 0)):
        with torch.no_grad():
            if tensor is not None and not tensor.is_meta:
                tensor.fill_(value)
