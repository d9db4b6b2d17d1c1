"""Convolutions one after the other, and such chains side by side: the parts of the
Inception networks.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

Size = int | tuple[int, int]


def conv_bn_relu(
    in_chans: int, out_chans: int, kernel_size: Size, stride: int = 1, padding: Size | None = None
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU. `padding` None keeps the size at
    stride 1; 0 is what the figures call V (valid).

    The batch norm has the eps of the authors' TensorFlow networks, which torchvision
    and timm keep.
    """
    if padding is None:
        height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        padding = (height // 2, width // 2)
    conv = nn.Conv2d(in_chans, out_chans, kernel_size, stride, padding=padding, bias=False)
    norm = nn.BatchNorm2d(out_chans, eps=0.001)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm, relu=nn.ReLU(inplace=True)))


def chain(in_chans: int, *steps: tuple[Any, ...] | nn.Module) -> nn.Sequential:
    """One step after the other: (channels, kernel size, stride, padding) is a
    `conv_bn_relu`, a module stays as it is.
    """
    layers: list[nn.Module] = []
    for step in steps:
        if isinstance(step, tuple):
            layers.append(conv_bn_relu(in_chans, *step))
            in_chans = step[0]
        else:
            layers.append(step)
    return nn.Sequential(*layers)


class Branches(nn.ModuleDict):
    """Modules on one input, their outputs concatenated in the order given: (N, C, H, W)
    to (N, sum of the branches' channels, H', W').
    """

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.values()], dim=1)


def inception_v4_stem() -> tuple[nn.Sequential, Branches]:
    """Inception-v4's stem behind its first three convolutions (arXiv:1602.07261, Fig.
    3), which Inception-ResNet-v2 shares: (N, 64, 147, 147) to (N, 192, 71, 71) to (N,
    384, 35, 35).
    """
    third = Branches(  # (N, 160, 73, 73)
        branch0=nn.MaxPool2d(3, 2),
        branch1=conv_bn_relu(64, 96, 3, 2, padding=0),
    )
    fourth = Branches(
        branch0=chain(160, (64, 1), (96, 3, 1, 0)),
        branch1=chain(160, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1, 0)),
    )
    last = Branches(
        branch0=conv_bn_relu(192, 192, 3, 2, padding=0),
        branch1=nn.MaxPool2d(3, 2),
    )
    return nn.Sequential(third, fourth), last
