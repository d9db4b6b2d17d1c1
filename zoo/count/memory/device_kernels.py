"""What a device does otherwise than torch's meta kernels, as far as memory is
concerned: autocast, and kernels that save something else.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.backends.cudnn import CUDNN_TENSOR_DTYPES
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from zoo.count.torch_internals import fuses_attention, run_operator, without_override_check

# ----------------------------------------------------------------------------- autocast


def _names(text: str) -> frozenset[str]:
    """Of functions and methods, as torch's documentation of autocast lists them."""
    return frozenset(text.split())


LOWER = _names(
    """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul
    __matmul__ __rmatmul__ mm bmm mv addmm addbmm baddbmm addmv addr einsum chain_matmul
    multi_dot scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh
    rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    """
)
SINGLE = _names(
    """
    pow __pow__ __rpow__ __rdiv__ __rtruediv__ exp expm1 log log10 log1p log2 reciprocal
    rsqrt prod cumprod cumsum sum norm renorm normalize softmax log_softmax softmin softplus
    layer_norm group_norm cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss kl_div
    binary_cross_entropy_with_logits cosine_similarity cosine_embedding_loss
    hinge_embedding_loss margin_ranking_loss soft_margin_loss multi_margin_loss
    multilabel_margin_loss poisson_nll_loss triplet_margin_loss cdist dist pdist acos asin
    cosh erfinv sinh tan
    """
)
SINGLE_CPU = _names(
    """
    prod cumprod cumsum mse_loss cosine_embedding_loss binary_cross_entropy nll_loss
    avg_pool3d
    """
)


class Autocast(TorchFunctionMode):
    """torch's automatic mixed precision for tensors on the meta device, which torch's
    own does not touch: in `dtype`, None for none, and wherever the network itself turns
    it on or off.

    Functions that are written in Python are cast as a whole. A parameter is cast once,
    until autocast ends or `forget`.
    """

    def __init__(self, dtype: torch.dtype | None, device: str) -> None:
        super().__init__()
        self.dtype = dtype
        self.device = device
        self.single = SINGLE if device == "cuda" else SINGLE_CPU
        self.cast: dict[int, tuple[Tensor, Tensor]] = {}
        self.before = (False, torch.get_autocast_dtype(device))

    def __enter__(self) -> Autocast:
        self.before = (
            torch.is_autocast_enabled(self.device),
            torch.get_autocast_dtype(self.device),
        )
        torch.set_autocast_enabled(self.device, self.dtype is not None)
        if self.dtype is not None:  # torch.autocast refuses "cuda" where there is no GPU
            torch.set_autocast_dtype(self.device, self.dtype)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_autocast_enabled(self.device, self.before[0])
        torch.set_autocast_dtype(self.device, self.before[1])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if not torch.is_autocast_enabled(self.device):
            self.forget()
        elif name in LOWER:
            args, kwargs = tree_map_only(Tensor, self._lowered, (args, kwargs))
        elif name in self.single:
            args, kwargs = tree_map_only(Tensor, _single, (args, kwargs))
        elif name == "local_response_norm":
            return response_norm(*args, **kwargs)
        return run_operator(func, args, kwargs)

    def _lowered(self, tensor: Tensor) -> Tensor:
        if tensor.dtype is not torch.float32:
            return tensor
        lower = torch.get_autocast_dtype(self.device)
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(lower)
        if id(tensor) not in self.cast:
            self.cast[id(tensor)] = tensor, tensor.to(lower)
        return self.cast[id(tensor)][1]

    def forget(self) -> None:
        """What torch does when its outermost autocast ends."""
        self.cast.clear()


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Local response normalisation (N, C, ...) as torch computes it, the power in
    single precision.
    """
    squares = (x * x).unsqueeze(1)  # (N, 1, C, ...)
    padding = (0, 0) * (x.ndim - 2) + (size // 2, (size - 1) // 2)
    squares = functional.pad(
        squares.flatten(3).unsqueeze(-1), (0, 0, *padding[-4:]) if x.ndim > 2 else padding
    )
    means = functional.avg_pool3d(squares, (size, 1, 1), stride=1).reshape(x.shape)
    return x / _single(means * alpha + k).pow(beta)


# ------------------------------------------------------------------------------ kernels


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


class Kernels(TorchFunctionMode):
    """Replaces functions by operators that save what the device's own kernels save."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.table = KERNELS[device]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kernel = self.table.get(name)
        if kernel is not None:
            output = kernel(*args, **(kwargs or {}))
            if output is not None:
                return output
        if name == "multi_head_attention_forward":  # made of functions that have kernels
            with self:
                return run_operator(without_override_check(func), args, kwargs or {})
        return run_operator(func, args, kwargs or {})
