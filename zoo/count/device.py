"""What a device does otherwise than torch's meta kernels, as far as memory is concerned: autocast, and kernels that save something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

# ------------------------------------------------------------------------------------------------------------ autocast

LOWER, SINGLE, SINGLE_CPU = (  # by the name of the function or method, as torch's documentation of autocast lists them
    set(names.split())
    for names in (
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul __matmul__ __rmatmul__ mm bmm mv addmm "
        "addbmm baddbmm addmv addr einsum chain_matmul multi_dot scaled_dot_product_attention multi_head_attention_forward "
        "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        "pow __pow__ __rpow__ __rdiv__ __rtruediv__ exp expm1 log log10 log1p log2 reciprocal rsqrt prod cumprod cumsum sum norm renorm "
        "normalize softmax log_softmax softmin softplus layer_norm group_norm cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss "
        "kl_div binary_cross_entropy_with_logits cosine_similarity cosine_embedding_loss hinge_embedding_loss margin_ranking_loss "
        "soft_margin_loss multi_margin_loss multilabel_margin_loss poisson_nll_loss triplet_margin_loss cdist dist pdist acos asin cosh "
        "erfinv sinh tan",
        "prod cumprod cumsum mse_loss cosine_embedding_loss binary_cross_entropy nll_loss avg_pool3d",
    )
)


class Autocast(TorchFunctionMode):
    """torch's automatic mixed precision for tensors on the meta device, which torch's own does not touch.

    Functions that are written in Python are cast as a whole. A parameter is cast once, until `forget`.
    """

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.dtype = dtype
        self.single = SINGLE if device == "cuda" else SINGLE_CPU
        self.cast: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name in LOWER:
            args, kwargs = tree_map_only(Tensor, self._lowered, (args, kwargs))
        elif name in self.single:
            args, kwargs = tree_map_only(Tensor, _single, (args, kwargs))
        elif name == "local_response_norm":
            return response_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _lowered(self, tensor: Tensor) -> Tensor:
        if tensor.dtype is not torch.float32:
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(self.dtype)
        if id(tensor) not in self.cast:
            self.cast[id(tensor)] = tensor, tensor.to(self.dtype)
        return self.cast[id(tensor)][1]

    def forget(self) -> None:
        """What torch does when its outermost autocast ends."""
        self.cast.clear()


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Local response normalisation (N, C, ...) as torch computes it, the power in single precision."""
    squares = (x * x).unsqueeze(1)  # (N, 1, C, ...)
    padding = (0, 0) * (x.ndim - 2) + (size // 2, (size - 1) // 2)
    squares = torch.nn.functional.pad(squares.flatten(3).unsqueeze(-1), (0, 0, *padding[-4:]) if x.ndim > 2 else padding)
    means = torch.nn.functional.avg_pool3d(squares, (size, 1, 1), stride=1).reshape(x.shape)
    return x / _single(means * alpha + k).pow(beta)


# ------------------------------------------------------------------------------------------------------------- kernels


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor | None:
    """One kernel that saves a mask of a byte per value."""
    return torch.native_dropout(input, p, True)[0] if training and 0 < p < 1 and not inplace and input.requires_grad else None


KERNELS: dict[str, dict[str, Callable[..., Any]]] = {  # per device: instead of a function of this name; None: as on meta
    "cuda": {"dropout": _dropout},
    "cpu": {},
}


class Kernels(TorchFunctionMode):
    """Replaces functions by operators that save what the device's own kernels save."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.table = KERNELS[device]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kernel = self.table.get(getattr(func, "__name__", ""))
        if kernel is not None:
            output = kernel(*args, **(kwargs or {}))
            if output is not None:
                return output
        return func(*args, **(kwargs or {}))
