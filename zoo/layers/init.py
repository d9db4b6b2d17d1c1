"""Initialisations by their papers' names. On the meta device they do nothing (and
import nothing: torch's meta kernels cost seconds).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary


class SkipInit(TorchFunctionMode):
    """Inside it, torch's own random initialisation of new layers is left out, because
    ours follows anyway.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if getattr(func, "__module__", None) in ("torch.nn.init", __name__):
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


def truncated_normal_(tensor: Tensor | None, std: float) -> None:
    """N(0, std²) without what lies further than two standard deviations from 0, as
    TensorFlow draws it.
    """
    if tensor is None or tensor.is_meta:
        return
    # A mode such as SkipInit: trunc_normal_, unlike torch's others, does not ask it.
    if has_torch_function_unary(tensor):
        handle_torch_function(truncated_normal_, (tensor,), tensor, std)
    else:
        nn.init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std)


def uniform_(tensor: Tensor | None, bound: float) -> None:
    """U(-bound, bound)."""
    if tensor is not None and not tensor.is_meta:
        nn.init.uniform_(tensor, -bound, bound)


def orthogonal_(tensor: Tensor) -> None:
    """A random matrix whose rows or columns are orthonormal: Saxe et al. 2014
    (arXiv:1312.6120).
    """
    if tensor.is_meta:
        return
    # A mode such as SkipInit: orthogonal_, unlike torch's others, does not ask it.
    if has_torch_function_unary(tensor):
        handle_torch_function(orthogonal_, (tensor,), tensor)
    else:
        nn.init.orthogonal_(tensor)


def constant_(tensor: Tensor | None, value: float) -> None:
    if tensor is not None and not tensor.is_meta:
        nn.init.constant_(tensor, value)


def he_normal_(weight: Tensor, fan: str = "out") -> None:
    """N(0, 2 / fan-out) or, with `fan` "in", N(0, 2 / fan-in): He et al. 2015
    (arXiv:1502.01852), eq. 14 and eq. 10.
    """
    fan_in, fan_out = fans(weight)
    normal_(weight, math.sqrt(2 / (fan_out if fan == "out" else fan_in)))


def glorot_uniform_(weight: Tensor) -> None:
    """U(±sqrt(6 / (fan-in + fan-out))): Glorot and Bengio 2010, eq. 16."""
    uniform_(weight, math.sqrt(6 / sum(fans(weight))))


def reset_norm_(norm: nn.modules.batchnorm._BatchNorm) -> None:
    """Scale 1, shift 0, and statistics as before any batch."""
    for tensor, value in (
        (norm.weight, 1),
        (norm.bias, 0),
        (norm.running_mean, 0),
        (norm.running_var, 1),
        (norm.num_batches_tracked, 0),
    ):
        with torch.no_grad():
            if tensor is not None and not tensor.is_meta:
                tensor.fill_(value)


def init_tensorflow_(module: nn.Module, std: float = 0.1) -> None:
    """Convolutions and linear layers as TensorFlow's Inception networks draw them:
    truncated normal weights, biases 0.
    """
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        truncated_normal_(module.weight, std)
        constant_(module.bias, 0)
