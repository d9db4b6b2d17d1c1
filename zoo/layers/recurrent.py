"""Recurrent layers as papers count them."""

from __future__ import annotations

import torch
from torch import nn

from zoo.layers import init


def with_one_bias(rnn: nn.RNNBase) -> nn.RNNBase:
    """The same layer with one bias per gate: the second one, which torch adds to the
    first, becomes a buffer of zeros, so that torch's fused kernels go on to run.
    """
    for name, _ in list(rnn.named_parameters(recurse=False)):
        if name.startswith("bias_hh"):
            shape, device = getattr(rnn, name).shape, getattr(rnn, name).device
            delattr(rnn, name)
            rnn.register_buffer(name, torch.zeros(shape, device=device))
    rnn._init_flat_weights()  # the list that the kernels are given
    return rnn


def reset_second_bias_(rnn: nn.RNNBase) -> None:
    """Of a layer with one bias per gate: the zeros of the other."""
    for buffer in rnn.buffers(recurse=False):
        init.constant_(buffer, 0)
