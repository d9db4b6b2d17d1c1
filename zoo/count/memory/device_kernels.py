"""Kernels of a device that save something else than torch's meta kernels."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.backends.cudnn import CUDNN_TENSOR_DTYPES
from torch.overrides import TorchFunctionMode

from zoo.count.torch_internals import fuses_attention, run_operator, without_override_check
from zoo.errors import warn


def _dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor | None:
    """On a GPU one kernel, that saves a mask of a byte per value."""
    if not training or not 0 < p < 1 or inplace or not input.requires_grad:
        return None
    return torch.native_dropout(input, p, True)[0]


def _attention(kernel: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """Fused attention, that never makes the matrix of scores; None where the device
    makes it. A mask of booleans becomes one of numbers first.
    """

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor | None:
        if not (query.is_meta and key.is_meta and value.is_meta) or query.ndim != 4:
            return None
        mask = attn_mask
        if mask is not None and mask.dtype is torch.bool:
            mask = torch.empty_like(mask, dtype=query.dtype, device=query.device)
        options = {"dropout_p": dropout_p, "is_causal": is_causal}
        return kernel(query, key, value, mask, scale=scale, gqa=enable_gqa, **options)

    return attention


def _attention_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, gqa: bool, **options: Any
) -> Tensor | None:
    if not fuses_attention(query, key, value, mask, gqa, **options):
        return None
    fused = _AT._scaled_dot_product_flash_attention_for_cpu
    output: Tensor = run_operator(fused, (query, key, value), {**options, "attn_mask": mask})[0]
    return output


def _attention_on_gpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    gqa: bool,
    scale: float | None,
    **options: Any,
) -> Tensor | None:
    """In lower precision without a mask one kernel, in all other cases another, which
    takes no groups of heads.
    """
    same_heads = query.shape[:2] == key.shape[:2]
    if query.shape[-1] != value.shape[-1] or not (same_heads or gqa):
        return None
    output: Tensor
    inputs = query, key, value
    if mask is None and query.dtype is not torch.float32:
        fused = _AT._scaled_dot_product_flash_attention
        output = run_operator(fused, inputs, {**options, "scale": scale})[0]
        return output
    if not same_heads:
        return None
    fused = _AT._scaled_dot_product_efficient_attention
    saved = query.requires_grad  # of the sums over scores
    output = run_operator(fused, (*inputs, mask, saved), {**options, "scale": scale})[0]
    return output


class _Pointwise(torch.autograd.Function):
    """A function that is one kernel forwards and one backwards, and saves its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.empty_like(ctx.saved_tensors[0])


def _mish(input: Tensor, inplace: bool = False) -> Tensor | None:
    """Meta tensors compute its backward pass in many steps, and that of no other
    function that devices compute in one. In place it saves a copy of its input.
    """
    return _Pointwise.apply(input) if input.requires_grad else None


class _Layers(torch.autograd.Function):
    """Recurrent layers as one kernel: for its backward pass it saves its inputs, its
    output, and what `more` of bytes it makes beside them.
    """

    @staticmethod
    def forward(ctx: Any, shape: Any, states: Any, more: int, x: Tensor, *weights: Tensor) -> Any:
        reserve = x.new_empty(more, dtype=torch.uint8)
        outputs = x.new_empty(shape), *(x.new_empty(state.shape) for state in states)
        ctx.save_for_backward(x, *weights, outputs[0], *states, reserve)
        ctx.inputs = 1 + len(weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        inputs = ctx.saved_tensors[: ctx.inputs]
        gradients = [
            torch.empty_like(tensor) if tensor.requires_grad else None for tensor in inputs
        ]
        return None, None, None, *gradients


def _recurrent(saved: float, between: float = 0, copied: bool = False) -> Callable[..., Any]:
    """Layers as one kernel that saves `saved` values per step, example, unit, layer and
    direction, and `between` of them between two layers. `copied`: in a type that cuDNN
    does not flatten, it saves a copy of the weights, too. Packed sequences as on meta.
    """

    def layers(
        x: Tensor,
        hidden: Any,
        weights: Any,
        biases: Any,
        depth: Any,
        dropout: Any = 0.0,
        train: bool = False,
        bidirectional: bool = False,
        batch_first: bool = False,
    ) -> Any:
        packed = isinstance(hidden, Tensor) and isinstance(weights, Tensor)
        if not isinstance(biases, bool) or packed or not train:
            return None
        states = hidden if isinstance(hidden, (tuple, list)) else [hidden]
        width = states[0].shape[-1] * (1 + bidirectional)
        values = int((saved * depth + between * (depth - 1)) * prod(x.shape[:2]) * width)
        if copied and x.dtype not in CUDNN_TENSOR_DTYPES:
            # those that autocast made lie in one piece already
            values += sum(weight.numel() for weight in weights if weight.is_leaf)
        return _Layers.apply((*x.shape[:2], width), states, values * x.element_size(), x, *weights)

    return layers


_AT = torch.ops.aten
# Per device, by the function's name; a kernel that gives None: as on meta.
KERNELS: dict[str, dict[str, Callable[..., Any]]] = {
    "cuda": {
        "dropout": _dropout,
        "mish": _mish,
        "scaled_dot_product_attention": _attention(_attention_on_gpu),
        # cuDNN's reserve as tests/gpu finds it: per layer the gates and cells, between
        # layers the hidden values
        "lstm": _recurrent(5, between=1, copied=True),
        "gru": _recurrent(6, between=1, copied=True),
        "rnn_tanh": _recurrent(1, between=1, copied=True),
        "rnn_relu": _recurrent(1, between=1, copied=True),
    },
    "cpu": {
        "mish": _mish,
        "scaled_dot_product_attention": _attention(_attention_on_cpu),
        "lstm": _recurrent(16.1),  # oneDNN's workspace, as measured
    },
}


def _may_be_fast(
    query: Tensor, key: Tensor, value: Tensor, *_: Any, training: bool = True, **__: Any
) -> bool:
    """Whether torch may run self-attention by its fast path for inference, which
    tensors on the meta device never take.
    """
    return (
        torch.backends.mha.get_fastpath_enabled()
        and not training
        and not torch.is_grad_enabled()
        and query is key
        and key is value
        and query.ndim == 3
        and not query.is_contiguous()  # a view: the layer's input had the batch first
    )


class Kernels(TorchFunctionMode):
    """Replaces functions by operators that save what the device's own kernels save."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.table = KERNELS[device]
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kernel = self.table.get(name)
        if kernel is not None:
            output = kernel(*args, **(kwargs or {}))
            if output is not None:
                return output
        if name == "multi_head_attention_forward":  # made of functions that have kernels
            if self.device == "cpu" and _may_be_fast(*args, **(kwargs or {})):
                warn(
                    "in evaluation mode attention layers with batch_first=True run as one "
                    "kernel on the CPU, which makes the matrix of scores: the prediction is "
                    "without it, as after torch.backends.mha.set_fastpath_enabled(False)"
                )
            with self:
                return run_operator(without_override_check(func), args, kwargs or {})
        return run_operator(func, args, kwargs or {})
