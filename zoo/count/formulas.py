"""What each operator of torch's dispatcher costs: multiply-adds in MACS, other
operations by kind in OTHER, or nothing in FREE.

Conventions
- 1 MAC = one multiply-add of a convolution or matrix product, products with zero
  padding included, biases excluded.
- Other operations are scalar ones: a bias or an elementwise operator is one per output
  value, a pooling window one per value in it, a softmax five per value (maximum,
  difference, exponential, sum, quotient). A normalisation costs four per value for its
  statistics (a sum, a difference, a square, a sum), two to apply them (difference,
  product) and two for scale and shift; with fixed statistics scale and shift fold into
  two in all. Backward passes as the tables say.
- In-place and `out=` forms cost what the plain form costs. An operator that is in none
  of the tables is reported by name.
"""

from __future__ import annotations

from math import prod
from typing import Any

from zoo.count.mac_formulas import (
    Formula,
    add_product,
    attention,
    attention_backward,
    convolution,
    convolution_backward,
    distances,
    distances_backward,
    efficient,
    efficient_backward,
    flash,
    flash_backward,
    lstm,
    lstm_backward,
    numel_of_first,
    outer_product,
    pairs_backward,
    plain_convolution,
    product,
    trilinear,
)

MACS: dict[str, Formula] = {
    "aten::convolution": convolution,
    "aten::_convolution": convolution,  # of traced networks
    "aten::convolution_overrideable": convolution,
    "aten::cudnn_convolution": plain_convolution,
    "aten::miopen_convolution": plain_convolution,
    "aten::mkldnn_convolution": plain_convolution,
    "aten::_slow_conv2d_forward": plain_convolution,
    "aten::slow_conv3d_forward": plain_convolution,
    "aten::_conv_depthwise2d": plain_convolution,
    "aten::conv_depthwise3d": plain_convolution,
    "aten::slow_conv_dilated2d": plain_convolution,
    "aten::slow_conv_dilated3d": plain_convolution,
    "aten::convolution_backward": convolution_backward,
    "aten::mm": product,
    "aten::_int_mm": product,
    "aten::_scaled_mm": product,
    "aten::_scaled_mm_v2": product,
    "aten::bmm": product,
    "aten::mv": product,
    "aten::dot": product,
    "aten::vdot": product,
    "aten::addmm": add_product,
    "aten::addbmm": add_product,
    "aten::baddbmm": add_product,
    "aten::addmv": add_product,
    "aten::addr": outer_product,
    "aten::_addmm_activation": add_product,
    "aten::_trilinear": trilinear,
    "aten::_cdist_forward": distances,
    "aten::_euclidean_dist": distances,
    "aten::_pdist_forward": distances,
    "aten::_cdist_backward": distances_backward,
    "aten::_pdist_backward": pairs_backward,
    "aten::_scaled_dot_product_flash_attention": attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": attention,
    "aten::_scaled_dot_product_efficient_attention": attention,
    "aten::_scaled_dot_product_cudnn_attention": attention,
    "aten::_scaled_dot_product_flash_attention_backward": attention_backward,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": attention_backward,
    "aten::_scaled_dot_product_efficient_attention_backward": attention_backward,
    "aten::_scaled_dot_product_cudnn_attention_backward": attention_backward,
    "aten::_flash_attention_forward": flash,
    "aten::_flash_attention_backward": flash_backward,
    "aten::_efficient_attention_forward": efficient,
    "aten::_efficient_attention_backward": efficient_backward,
    "aten::mkldnn_rnn_layer": lstm,
    "aten::mkldnn_rnn_layer_backward": lstm_backward,
}


# --------------------------------------------------------------------- other operations


def per_output(cost: int = 1) -> Formula:
    """`cost` per value of the (first) output."""
    return lambda *_, output, **__: cost * numel_of_first(output)


def per_input(cost: int = 1) -> Formula:
    """`cost` per value of the first tensor among the arguments."""
    return lambda *args, output, **__: cost * numel_of_first(args)


def window(sides: int) -> Formula:
    """One operation per value in the window of each output; a kernel of one number has
    it on all `sides`.
    """

    def formula(x: Any, kernel: Any, *_: Any, output: Any, **__: Any) -> int:
        return numel_of_first(output) * prod(kernel if len(kernel) > 1 else kernel * sides)

    return formula


def window_backward(sides: int) -> Formula:
    def formula(grad: Any, x: Any, kernel: Any, *_: Any, output: Any, **__: Any) -> int:
        return window(sides)(x, kernel, output=grad)

    return formula


def bias_at(place: int) -> Formula:
    """One addition per output value, where the argument at `place` is a bias."""

    def formula(*args: Any, output: Any, bias: Any = None, **_: Any) -> int:
        given = args[place] if place < len(args) else bias
        return 0 if given is None else numel_of_first(output)

    return formula


def bias_backward(grad: Any, *args: Any, output: Any) -> int:
    return grad.numel() if args[-1][2] else 0


def batch_norm(
    x: Any,
    weight: Any,
    shift: Any,
    mean: Any,
    var: Any,
    training: bool = True,
    *_: Any,
    output: Any,
    **__: Any,
) -> int:
    """Statistics of the batch in training, then a product and a sum per value."""
    return (6 if training else 2) * x.numel()


def no_training(x: Any, *_: Any, output: Any, **__: Any) -> int:
    return 2 * x.numel()


def embedding_bag(
    weight: Any, words: Any, ends: Any, scaled: bool = False, mode: int = 0, *rest: Any, output: Any
) -> int:
    """Every word is looked up and added to its bag, with a product before where the
    words have weights.
    """
    weighted = rest[1:2] not in ((), (None,))
    return (3 if weighted else 2) * words.numel() * weight.shape[-1]


def embedding_bag_backward(grad: Any, words: Any, *_: Any, output: Any) -> int:
    return int(words.numel() * grad.shape[-1])


def layer_norm(x: Any, shape: Any, weight: Any = None, *_: Any, output: Any, **__: Any) -> int:
    return (6 if weight is None else 8) * x.numel()


def group_norm(x: Any, weight: Any, *_: Any, output: Any, **__: Any) -> int:
    return (6 if weight is None else 8) * x.numel()


# fmt: off
ROWS: tuple[tuple[str, Formula, str], ...] = (
    # kind, cost, operators
    ("bias", bias_at(2), "convolution _convolution convolution_overrideable mkldnn_convolution miopen_convolution"),
    ("bias", bias_at(3), "_slow_conv2d_forward slow_conv3d_forward _conv_depthwise2d conv_depthwise3d slow_conv_dilated2d"),
    ("bias", bias_at(3), "slow_conv_dilated3d"),
    ("bias", bias_at(4), "_scaled_mm"),
    ("bias", bias_at(8), "_scaled_mm_v2"),
    ("bias", bias_backward, "convolution_backward"),
    ("bias", per_output(), "addmm addbmm baddbmm addmv addr _addmm_activation"),
    ("normalisation", batch_norm, "native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit"),
    ("normalisation", per_input(6), "_batch_norm_with_update _native_batch_norm_legit_functional"),
    ("normalisation", no_training, "_batch_norm_no_update _native_batch_norm_legit_no_training"),
    ("normalisation", layer_norm, "native_layer_norm"),
    ("normalisation", group_norm, "native_group_norm"),
    ("normalisation", per_input(4), "_fused_rms_norm"),  # a square, a sum, two products
    ("normalisation", per_input(3), "_weight_norm_interface"),
    ("normalisation", per_input(4), "batch_norm_update_stats"),
    # of its input: two sums over values and products (3), then the input's gradient (5)
    ("normalisation", per_input(8), "native_batch_norm_backward cudnn_batch_norm_backward native_layer_norm_backward"),
    ("normalisation", per_input(8), "native_group_norm_backward batch_norm_backward"),
    ("normalisation", per_input(8), "_fused_rms_norm_backward _weight_norm_interface_backward miopen_batch_norm_backward"),
    ("activation", per_output(), "relu threshold hardtanh hardswish hardsigmoid elu selu celu leaky_relu prelu _prelu_kernel"),
    ("activation", per_output(), "gelu silu mish softplus softshrink hardshrink log_sigmoid_forward glu tanh sigmoid relu6"),
    ("activation", per_output(), "threshold_backward hardtanh_backward hardswish_backward hardsigmoid_backward elu_backward"),
    ("activation", per_output(), "leaky_relu_backward _prelu_kernel_backward rrelu_with_noise_backward gelu_backward silu_backward"),
    ("activation", per_output(), "mish_backward softplus_backward softshrink_backward rrelu_with_noise"),
    ("activation", per_output(), "hardshrink_backward log_sigmoid_backward glu_backward tanh_backward"),
    ("activation", per_output(), "sigmoid_backward"),
    ("activation", per_output(9), "_thnn_fused_lstm_cell _thnn_fused_gru_cell"),  # gates of one unit: sigmoids, tanhs, products, sums
    ("softmax", per_output(5), "_softmax _log_softmax _safe_softmax _masked_softmax softmax log_softmax"),
    # a product and a sum for the row's total, a product and a difference to apply it
    ("softmax", per_output(4), "_softmax_backward_data _log_softmax_backward_data _masked_softmax_backward"),
    ("pooling", window(2), "avg_pool2d max_pool2d_with_indices fractional_max_pool2d"),
    ("pooling", window(3), "avg_pool3d max_pool3d_with_indices fractional_max_pool3d"),
    ("pooling", per_input(), "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d max_unpool2d max_unpool3d"),
    ("pooling", window_backward(2), "avg_pool2d_backward"),
    ("pooling", window_backward(3), "avg_pool3d_backward"),
    ("pooling", per_input(), "max_pool2d_with_indices_backward max_pool3d_with_indices_backward adaptive_max_pool2d_backward"),
    ("pooling", per_input(), "adaptive_max_pool3d_backward fractional_max_pool2d_backward fractional_max_pool3d_backward"),
    ("pooling", per_output(), "_adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward"),
    ("interpolation", per_output(), "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d"),
    ("interpolation", per_output(), "_upsample_nearest_exact2d _upsample_nearest_exact3d affine_grid_generator"),
    ("interpolation", per_output(3), "upsample_linear1d"),  # 2^d values, a product each, and their sum
    ("interpolation", per_output(7), "upsample_bilinear2d _upsample_bilinear2d_aa grid_sampler_2d"),
    ("interpolation", per_output(15), "upsample_trilinear3d grid_sampler_3d"),
    ("interpolation", per_output(31), "upsample_bicubic2d _upsample_bicubic2d_aa _upsample_lanczos2d_aa"),
    ("interpolation", per_input(), "upsample_nearest1d_backward upsample_nearest2d_backward upsample_nearest3d_backward"),
    ("interpolation", per_input(), "_upsample_nearest_exact1d_backward _upsample_nearest_exact2d_backward"),
    ("interpolation", per_input(), "_upsample_nearest_exact3d_backward"),
    ("interpolation", per_input(3), "upsample_linear1d_backward"),
    ("interpolation", per_input(7), "upsample_bilinear2d_backward _upsample_bilinear2d_aa_backward grid_sampler_2d_backward"),
    ("interpolation", per_input(15), "upsample_trilinear3d_backward grid_sampler_3d_backward"),
    ("interpolation", per_input(31), "upsample_bicubic2d_backward _upsample_bicubic2d_aa_backward"),
    ("elementwise", per_output(), "floor_divide masked_fill masked_scatter cross linalg_cross bucketize searchsorted isin tril_indices"),
    ("elementwise", per_output(), "native_dropout_backward huber_loss mse_loss smooth_l1_loss binary_cross_entropy"),
    ("elementwise", per_output(), "binary_cross_entropy_with_logits mse_loss_backward smooth_l1_loss_backward huber_loss_backward"),
    ("elementwise", per_output(), "binary_cross_entropy_backward col2im bitwise_not logical_not"),
    # a difference per coordinate, and a root or a quotient per pair
    ("elementwise", lambda x, *_, output, **__: output.numel() * (x.shape[-1] + 1), "_cdist_forward _euclidean_dist _pdist_forward"),
    ("elementwise", lambda grad, x, *_, output, **__: grad.numel() * (x.shape[-1] + 1), "_cdist_backward _pdist_backward"),
    ("reduction", per_input(), "all any argmax argmin amax amin aminmax max min mean sum prod trace count_nonzero nansum median nanmedian"),
    ("reduction", per_input(), "mode cumsum cumprod cummax cummin _cummax_helper"),
    ("reduction", per_input(), "_cummin_helper kthvalue topk sort logsumexp logcumsumexp histc"),
    ("reduction", per_input(), "nll_loss_forward nll_loss2d_forward _ctc_loss bincount unique_consecutive unique_dim _unique2 hash_tensor"),
    ("reduction", per_input(4), "std var std_mean var_mean"),
    ("reduction", per_input(2), "norm linalg_vector_norm renorm"),
    ("lookup", per_output(), "embedding embedding_renorm gather index index_select take"),
    ("lookup", per_output(), "index_add index_copy index_fill index_put index_reduce _index_put_impl _unsafe_index _unsafe_index_put"),
    ("lookup", per_output(), "_unsafe_masked_index scatter scatter_add scatter_reduce put masked_select nonzero nonzero_static"),
    ("lookup", per_output(), "repeat_interleave"),
    ("lookup", per_input(), "embedding_dense_backward nll_loss_backward nll_loss2d_backward select_backward"),
    ("lookup", per_input(), "_unsafe_masked_index_put_accumulate slice_backward diagonal_backward"),
    ("lookup", embedding_bag, "_embedding_bag _embedding_bag_forward_only"),
    ("lookup", embedding_bag_backward, "_embedding_bag_backward _embedding_bag_dense_backward"),
    ("random", per_output(), "bernoulli cauchy exponential geometric log_normal multinomial normal normal_functional poisson rand"),
    ("random", per_output(), "rand_like randint randint_like randn randn_like random randperm uniform native_dropout"),
)
# fmt: on

OTHER: dict[str, tuple[str, Formula]] = {
    f"aten::{name}": (kind, cost) for kind, cost, names in ROWS for name in names.split()
}

# fmt: off
# New memory, copies and checks. Views, and elementwise operators that are in no table,
# are known by their schema and tags.
FREE = {
    "aten::" + name
    for names in (
        "arange empty empty_like empty_permuted empty_strided eye full full_like linspace logspace new_empty new_empty_strided new_full",
        "new_ones new_zeros ones ones_like scalar_tensor triu_indices zero zeros zeros_like _efficientzerotensor",
        "_assert_async _assert_tensor_metadata _local_scalar_dense _to_copy _unsafe_view alias_copy as_strided_copy as_strided_scatter",
        "block_diag cat channel_shuffle clone complex constant_pad_nd copy detach_copy diag_embed diagonal_copy diagonal_scatter",
        "expand_copy fill flip im2col is_same_size lift lift_fresh_copy narrow_copy permute_copy pixel_shuffle pixel_unshuffle polar",
        "reflection_pad1d reflection_pad2d reflection_pad3d repeat replication_pad1d replication_pad2d replication_pad3d resize resize_as",
        "roll rot90 select_copy select_scatter set slice_copy slice_scatter split_copy split_with_sizes_copy squeeze_copy stack t_copy",
        "transpose_copy tril triu unbind_copy unfold_copy unsafe_split unsafe_split_with_sizes unsqueeze_copy view_copy",
        "_sparse_coo_tensor_with_dims_and_tensors",
        "_pack_padded_sequence unfold_backward reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward",
        "replication_pad1d_backward replication_pad2d_backward replication_pad3d_backward _pack_padded_sequence_backward copysign",
        "_linalg_check_errors _reshape_copy value_selecting_reduction_backward is_nonzero equal _is_any_true _is_all_true",
    )
    for name in names.split()
}
# fmt: on
