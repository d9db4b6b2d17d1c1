"""torch's automatic mixed precision, for tensors on the meta device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from zoo.count.torch_internals import run_operator


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
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
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
