"""Parts of the residual networks: ResNet, its pre-activation, wide, aggregated and
stochastic-depth successors.

Layers follow K. He et al., arXiv:1512.03385: the ImageNet frame of Table 1, the
CIFAR-10 frame of section 4.2, shortcut options of section 3.3 and blocks of Figure 5.
No convolution has a bias.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import check_choice
from zoo.layers import init

if TYPE_CHECKING:
    from zoo.interfaces.classifier import Classifier

STEMS = ("imagenet", "cifar")


def conv(in_chans: int, out_chans: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size up to its stride: (N, C, H, W) to
    (N, out_chans, H / stride, W / stride).
    """
    padding = kernel // 2
    return nn.Conv2d(
        in_chans, out_chans, kernel, stride, padding=padding, groups=groups, bias=False
    )


class PadShortcut(nn.Module):
    """Option A: the identity, subsampled by `stride`, with `before` and `after` zero
    channels around it.
    """

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]  # (N, C, H / stride, W / stride)
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))  # (N, before + C + after, ...)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


def make_shortcut(
    option: str,
    in_chans: int,
    out_chans: int,
    stride: int,
    *,
    pad: str = "after",
    norm: bool = True,
) -> nn.Module:
    """The shortcut of a block under option "A", "B" or "C" of section 3.3.

    `pad`: where option A has its zero channels, "after" the identity's or "both".
    `norm`: whether a projection has a batch norm.
    """
    if option != "C" and stride == 1 and in_chans == out_chans:
        return nn.Identity()
    if option == "A":
        before = (out_chans - in_chans) // 2 if pad == "both" else 0
        return PadShortcut(stride, before, out_chans - in_chans - before)
    projection = conv(in_chans, out_chans, 1, stride)
    return nn.Sequential(projection, nn.BatchNorm2d(out_chans)) if norm else projection


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (Figure 5, left): (N, C, H, W) to (N, width, H / stride, W /
    stride). `downsample` None: plain.
    """

    def __init__(
        self, in_chans: int, width: int, stride: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_chans, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample
        self.relu = nn.ReLU(inplace=True)

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds to its shortcut."""
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 (Figure 5, right): (N, C, H, W) to (N, out_chans, H / stride, W
    / stride). `downsample` None: plain.

    `width`: channels of the inner convolutions, in `groups` groups. `stride_in`: which
    convolution is strided, "1x1" or "3x3".
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        out_chans: int,
        stride: int,
        downsample: nn.Module | None,
        stride_in: str = "3x3",
        groups: int = 1,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = conv(in_chans, width, 1, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv(width, width, 3, second, groups=groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = conv(width, out_chans, 1)
        self.bn3 = nn.BatchNorm2d(out_chans)
        self.downsample = downsample
        self.relu = nn.ReLU(inplace=True)

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds to its shortcut."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        if self.downsample is not None:
            out += self.downsample(x)
        return self.relu(out)


def add_stem(
    net: Classifier, stem: str, width: int, *, norm: bool = True, relu: bool = True
) -> None:
    """The first convolution as the stage `conv1`: 7x7 with stride 2 ("imagenet"), or
    3x3 ("cifar").
    """
    check_choice(type(net).__name__, "stem", stem, STEMS)
    kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = conv(net.in_chans, width, kernel, stride)
    if norm:
        layers["bn"] = nn.BatchNorm2d(width)
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    net.add_stage("conv1", nn.Sequential(layers), width, stride)  # (N, width, H / stride, ...)


def add_stages(
    net: Classifier,
    stem: str,
    blocks: Sequence[int],
    out_chans: int,
    *,
    block: Callable[[int, int, int], nn.Module],
) -> int:
    """The stages after the stem, with `blocks[i]` blocks in the i-th; returns the
    channels of the last output.

    `block(in_chans, out_chans, stride)` makes one. The first stage gives `out_chans`
    channels at the stem's size, on ImageNet pooled to half of it; each further one
    twice as many at half the size.
    """
    channels, reduction = net.feature_info[-1]["num_chs"], net.feature_info[-1]["reduction"]
    imagenet = stem == "imagenet"
    for number, count in enumerate(blocks, 1):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if imagenet and number == 1:
            layers["pool"] = nn.MaxPool2d(3, 2, padding=1)
        for i in range(count):
            layers[str(i)] = block(channels, out_chans, 2 if number > 1 and i == 0 else 1)
            channels = out_chans
        reduction *= 2 if imagenet or number > 1 else 1
        name = f"conv{number + 1}_x" if imagenet else f"stage{number}"
        stage = nn.Sequential(layers)  # (N, channels, H / reduction, W / reduction)
        net.add_stage(name, stage, channels, reduction)
        out_chans *= 2
    return channels


def init_he_(module: nn.Module, fan: str = "out") -> None:
    """Convolutions N(0, 2 / fan-out) (`fan` "in": fan-in), the head N(0, 2 / fan-in),
    biases 0: He et al. 2015.
    """
    if isinstance(module, nn.Conv2d):
        init.he_normal_(module.weight, fan)
    elif isinstance(module, nn.Linear):
        init.he_normal_(module.weight, "in")
        init.constant_(module.bias, 0)
