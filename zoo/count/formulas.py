"""Multiply-adds per operator of torch's dispatcher. A new operator is a line in MACS, or a name in FREE when it has none.

Convention: 1 MAC = one multiply-add of a convolution or matrix product, products with zero padding included, biases excluded.
An operator that is in neither table is reported by name, never counted as zero.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch

Formula = Callable[..., int]  # (arguments of the operator, output=its output) -> MACs


def convolution(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, *_: Any, output: Any) -> int:
    """Each output position (transposed: each input position) meets one kernel per map; weight (out, in / groups, *kernel)."""
    return (x if transposed else output).numel() * prod(weight.shape[1:])


def product(a: Any, b: Any, *, output: Any) -> int:
    """(…, n, m) @ (…, m, p), or a matrix or vector with a vector."""
    return a.numel() * (b.shape[-1] if b.ndim > 1 else 1)


def add_product(bias: Any, a: Any, b: Any, *_: Any, output: Any, **__: Any) -> int:
    return product(a, b, output=output)


def attention(query: Any, key: Any, value: Any, *_: Any, output: Any, **__: Any) -> int:
    """query (N, H, L, E) @ key (N, H, S, E)ᵀ, then (N, H, L, S) @ value (N, H, S, V); a causal mask saves nothing here."""
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


MACS: dict[str, Formula] = {
    "aten::convolution": convolution,
    "aten::mm": product,
    "aten::bmm": product,
    "aten::mv": product,
    "aten::dot": product,
    "aten::vdot": product,
    "aten::addmm": add_product,
    "aten::addbmm": add_product,
    "aten::baddbmm": add_product,
    "aten::addmv": add_product,
    "aten::_scaled_dot_product_flash_attention": attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": attention,
    "aten::_scaled_dot_product_efficient_attention": attention,
    "aten::_scaled_dot_product_cudnn_attention": attention,
}

# No multiply-adds of convolutions or matrix products. Views and most elementwise operators are known by their schema and tags.
FREE = {
    "aten::" + name
    for names in (
        # creation
        "arange empty empty_like empty_permuted empty_strided eye full full_like linspace logspace new_empty new_empty_strided new_full",
        "new_ones new_zeros ones ones_like scalar_tensor tril_indices triu_indices zero zeros zeros_like",
        # copies
        "_assert_async _assert_tensor_metadata _local_scalar_dense _to_copy _unsafe_view alias_copy as_strided_copy as_strided_scatter",
        "block_diag cat channel_shuffle clone col2im complex constant_pad_nd copy detach_copy diag_embed diagonal_copy diagonal_scatter",
        "expand_copy fill flip im2col is_same_size lift lift_fresh_copy narrow_copy permute_copy pixel_shuffle pixel_unshuffle polar",
        "reflection_pad1d reflection_pad2d reflection_pad3d repeat replication_pad1d replication_pad2d replication_pad3d resize resize_as",
        "roll rot90 select_copy select_scatter set slice_copy slice_scatter split_copy split_with_sizes_copy squeeze_copy stack t_copy",
        "transpose_copy tril triu unbind_copy unfold_copy unsafe_split unsafe_split_with_sizes unsqueeze_copy view_copy",
        "_pack_padded_sequence",
        # looking up
        "_embedding_bag _embedding_bag_forward_only _index_put_impl _unique2 _unsafe_index _unsafe_index_put _unsafe_masked_index bincount",
        "bucketize embedding embedding_renorm gather histc index index_add index_copy index_fill index_put index_reduce index_select isin",
        "masked_fill masked_scatter masked_select nonzero nonzero_static put repeat_interleave scatter scatter_add scatter_reduce",
        "searchsorted take unique_consecutive unique_dim",
        # random numbers
        "bernoulli cauchy exponential geometric log_normal multinomial native_dropout normal normal_functional poisson rand rand_like",
        "randint randint_like randn randn_like random randperm rrelu_with_noise uniform",
        # pooling and interpolation
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d affine_grid_generator avg_pool2d avg_pool3d",
        "fractional_max_pool2d fractional_max_pool3d grid_sampler_2d grid_sampler_3d max_pool2d_with_indices max_pool3d_with_indices",
        "max_unpool2d max_unpool3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d",
        "_upsample_nearest_exact3d upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d",
        "upsample_nearest3d upsample_trilinear3d",
        # normalisation
        "_batch_norm_no_update _batch_norm_with_update _fused_rms_norm _native_batch_norm_legit _native_batch_norm_legit_functional",
        "_native_batch_norm_legit_no_training _weight_norm_interface batch_norm_update_stats cudnn_batch_norm linalg_vector_norm",
        "native_batch_norm native_group_norm native_layer_norm norm renorm",
        # activations, gates and losses
        "_ctc_loss _log_softmax _masked_softmax _prelu_kernel _safe_softmax _softmax _thnn_fused_gru_cell _thnn_fused_lstm_cell",
        "binary_cross_entropy binary_cross_entropy_with_logits elu floor_divide glu hardswish hardtanh huber_loss log_sigmoid_forward",
        "mse_loss nll_loss2d_forward nll_loss_forward smooth_l1_loss",
        # sums, products and extremes of one tensor
        "_cummax_helper _cummin_helper all amax amin aminmax any argmax argmin count_nonzero cummax cummin cumprod cumsum kthvalue",
        "logcumsumexp logsumexp max mean median min mode nanmedian nansum prod sort std std_mean sum topk trace var var_mean",
    )
    for name in names.split()
}  # fmt: skip


def formula(operator: Any) -> Formula | None:
    """The formula of an `OpOverload`: None when it has no multiply-adds; raises KeyError when it is not known."""
    name = operator._schema.name
    if not name.endswith("__"):  # in place counts as the plain form; `__and__` is a plain form
        name = name.removesuffix("_")
    if name in MACS:
        return MACS[name]
    if name in FREE or operator.is_view or torch.Tag.inplace_view in operator.tags or _elementwise(operator, name):
        return None
    raise KeyError(name)


def _elementwise(operator: Any, name: str) -> bool:
    """Whether any overload says so: the tag is missing from some of them, in-place ones above all."""
    plain = getattr(getattr(torch.ops, operator.namespace), name.partition("::")[2], operator.overloadpacket)
    return any(torch.Tag.pointwise in getattr(plain, overload).tags for overload in plain.overloads())
