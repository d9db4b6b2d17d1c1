"""DenseNet: in a dense block every layer takes the maps of all layers before it.

G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger. Densely Connected Convolutional
Networks. CVPR 2017, arXiv:1608.06993. Dense block, growth rate, B and C: section 3;
ImageNet networks: Table 1; CIFAR networks: section 3 and Table 2; results: Tables 2, 3.

densenet121, 169, 201 and 264 are the columns of Table 1, the layers of the last being
265; densenet161 (growth rate 48) is of the earlier versions and the authors'
repository. The `_cifar10` rows are named by L and k of Table 2: densenet40_k12 is a
basic network, densenet_bc100_k12 one with bottlenecks and compression.

`memory_efficient=True` computes what a layer makes of all maps before it (their
concatenation, batch norm and ReLU) a second time in the backward pass instead of
keeping it, so that memory grows linearly with depth: G. Pleiss et al., Memory-Efficient
Implementation of DenseNets, arXiv:1707.06990. Outputs, gradients and batch-norm
statistics are the same.

Readings
- The first convolution has 16 channels, twice the growth rate in the BC networks and on
  ImageNet: the printed counts agree with that alone.
- The last block is followed by batch norm and ReLU, and not by a transition.
- The paper takes its initialisation of convolutions from He et al. 2015; fan-out,
  biases of 0 and torch's uniform linear weights are those of the released code.

Departures
- Dropout (0.2 after all convolutions but the first, for data without augmentation) is
  off: `drop_rate=0.2`.
- Inputs are normalised by ImageNet's mean and standard deviation in the CIFAR networks
  too.
"""

import math
from collections import OrderedDict
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.errors import check_choice
from zoo.figures import CIFAR10_TEST, error_rates, halved, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.interfaces.network import frozen_statistics
from zoo.layers import init
from zoo.layers.neck import global_pool
from zoo.layers.tracing import is_symbolic
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant


class DenseLayer(nn.Module):
    """H of section 3: the maps of the block so far, together (N, C, H, W), to `growth`
    new channels.

    BN-ReLU-3x3, or with `bottleneck` BN-ReLU-1x1 (to 4 growth channels)-BN-ReLU-3x3.
    """

    def __init__(
        self,
        in_chans: int,
        growth: int,
        *,
        bottleneck: bool,
        drop_rate: float,
        memory_efficient: bool,
    ) -> None:
        super().__init__()
        self.memory_efficient = memory_efficient
        width, kernel = (4 * growth, 1) if bottleneck else (growth, 3)
        self.norm1 = nn.BatchNorm2d(in_chans)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_chans, width, kernel, padding=kernel // 2, bias=False)
        self.drop1 = nn.Dropout(drop_rate)
        self.bottleneck = bottleneck
        if bottleneck:
            self.norm2 = nn.BatchNorm2d(width)
            self.relu2 = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=False)
            self.drop2 = nn.Dropout(drop_rate)

    def reduce(self, *maps: Tensor) -> Tensor:
        """What grows with depth: (N, C_i, H, W) each to (N, 4 growth, H, W), without
        bottleneck (N, growth, H, W).
        """
        return self.conv1(self.relu1(self.norm1(torch.cat(maps, 1))))

    def forward(self, maps: list[Tensor]) -> Tensor:
        recompute = self.memory_efficient and self.training and torch.is_grad_enabled()
        if torch.compiler.is_compiling() or is_symbolic(maps[0]):
            recompute = False  # a compiler chooses on its own what to save
        x = self.drop1(self.reduce_again(maps) if recompute else self.reduce(*maps))
        if not self.bottleneck:
            return x  # (N, growth, H, W)
        return self.drop2(self.conv2(self.relu2(self.norm2(x))))  # (N, growth, H, W)

    def reduce_again(self, maps: list[Tensor]) -> Tensor:
        """`reduce`, computed a second time in the backward pass; that ends before the
        convolution, whose output the backward pass does not need.
        """
        reduced: Tensor = checkpoint(
            self.reduce,
            *maps,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), frozen_statistics(self.norm1)),
        )
        return reduced


class DenseBlock(nn.Module):
    """Dense layers: (N, in_chans, H, W) to (N, in_chans + layers * growth, H, W)."""

    def __init__(
        self,
        layers: int,
        in_chans: int,
        growth: int,
        *,
        bottleneck: bool,
        drop_rate: float,
        memory_efficient: bool,
    ) -> None:
        super().__init__()
        for i in range(layers):
            layer = DenseLayer(
                in_chans + i * growth,
                growth,
                bottleneck=bottleneck,
                drop_rate=drop_rate,
                memory_efficient=memory_efficient,
            )
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.children():
            maps.append(layer(maps))
        return torch.cat(maps, 1)


def transition(in_chans: int, out_chans: int, drop_rate: float) -> nn.Module:
    """BN-ReLU-1x1 and a 2x2 mean: (N, in_chans, H, W) -> (N, out_chans, H/2, W/2)."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_chans),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(in_chans, out_chans, 1, bias=False),
            drop=nn.Dropout(drop_rate),
            pool=nn.AvgPool2d(2),
        )
    )


class DenseNet(Classifier):
    """DenseNet. `blocks`: the layers of each dense block; `growth`: the channels that a
    layer adds, k. Input (N, in_chans, H, W).

    `bottleneck`: B; `compression`: theta of the transitions; `stem`: "imagenet" (Table
    1) or "cifar" (a 3x3 convolution, no pooling); `memory_efficient`: recompute instead
    of saving in training. Raises InputError for an unknown `stem`.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        growth: int,
        bottleneck: bool = True,
        compression: float = 0.5,
        stem: str = "imagenet",
        memory_efficient: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("DenseNet", "stem", stem, ("imagenet", "cifar"))
        imagenet = stem == "imagenet"
        channels = 2 * growth if bottleneck else 16
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if imagenet:
            layers["conv"] = nn.Conv2d(in_chans, channels, 7, 2, padding=3, bias=False)
            layers["norm"] = nn.BatchNorm2d(channels)
            layers["relu"] = nn.ReLU(inplace=True)
        else:
            layers["conv"] = nn.Conv2d(in_chans, channels, 3, padding=1, bias=False)
        reduction = 2 if imagenet else 1
        stage = nn.Sequential(layers)  # (N, channels, H / reduction, W / reduction)
        self.add_stage("stem", stage, channels, reduction)
        for number, count in enumerate(blocks, 1):
            layers = OrderedDict()
            if number > 1:
                compressed = math.floor(compression * channels)
                layers["transition"] = transition(channels, compressed, drop_rate)
                channels = compressed
            elif imagenet:
                layers["pool"] = nn.MaxPool2d(3, 2, padding=1)
            layers["dense"] = DenseBlock(
                count,
                channels,
                growth,
                bottleneck=bottleneck,
                drop_rate=drop_rate,
                memory_efficient=memory_efficient,
            )
            channels += count * growth
            if number == len(blocks):
                layers["norm"] = nn.BatchNorm2d(channels)
                layers["relu"] = nn.ReLU(inplace=True)
            reduction *= 2 if number > 1 or imagenet else 1
            stage = nn.Sequential(layers)  # (N, channels, H / reduction, W / reduction)
            self.add_stage(f"stage{number}", stage, channels, reduction)
        self.neck = global_pool()  # (N, channels)
        self.head_hidden_size = channels
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.he_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            init.uniform_(module.weight, 1 / math.sqrt(module.in_features))
            init.constant_(module.bias, 0)


def outputs(source: str, channels: tuple[int, ...], side: int) -> tuple[PrintedFigure, ...]:
    """The outputs of the dense blocks; the side halves from block to block."""
    names = [f"stage{i}" for i in range(1, len(channels) + 1)]
    return stage_outputs(source, halved(names, channels, side))


def imagenet(
    *,
    depth: int,
    blocks: tuple[int, ...],
    growth: int = 32,
    channels: tuple[int, ...],
    params: int,
    macs: int,
    single: tuple[float, float] | None = None,
    ten: tuple[float, float] | None = None,
    source: str = "Table 1",
    note: str = "",
) -> Variant:
    """A column of Table 1, `channels` those of the dense blocks' outputs, with its
    top-1 and top-5 errors for a `single` crop and for `ten` (Table 3).
    """
    counted = 1 + 2 * sum(blocks) + 3 + 1
    reason = f"the layers of its column are {counted}" if counted != depth else ""
    printed = (
        *stage_outputs(source, {"stem": (2 * growth, 112, 112)}),
        *outputs(source, channels, side=56),
        PrintedFigure("depth", depth, source, reason=reason),
    )
    results: list[Result] = []
    for errors, protocol in (
        (single, "single network, single crop"),
        (ten, "single network, 10 crops"),
    ):
        if errors:
            top1, top5 = errors
            results += error_rates(top1=top1, top5=top5, protocol=protocol, source="Table 3")
    return Variant(
        model_args={"blocks": blocks, "growth": growth},
        claims=Claims(params, macs, printed),
        depth=depth,
        inputs=(ImageInput(min_size=29),),
        results=tuple(results),
        tiny={"blocks": (2, 1, 1, 2), "growth": 32},
        note=note,
    )


def cifar(
    *,
    depth: int,
    growth: int,
    bottleneck: bool,
    channels: tuple[int, ...],
    params: int,
    macs: int,
    millions: float,
    augmented: float,
    plain: float | None = None,
) -> Variant:
    """A row of Table 2 with its parameters in `millions` and its top-1 errors, with
    augmentation and without. With bottlenecks there is compression too.
    """
    layers = (depth - 4) // (6 if bottleneck else 3)
    printed = (
        PrintedFigure("params", round(millions * 1e6), "Table 2", resolution=1e5),
        PrintedFigure("depth", depth, "Table 2"),
        *outputs("section 3", channels, side=32),
    )
    results: list[Result] = []
    for error, protocol in (
        (augmented, "single network, shifts and mirroring"),
        (plain, "single network, no augmentation, dropout"),
    ):
        results += error_rates(top1=error, data=CIFAR10_TEST, protocol=protocol, source="Table 2")
    kind = "bottleneck and compression" if bottleneck else "basic"
    return Variant(
        model_args={
            "blocks": (layers,) * 3,
            "growth": growth,
            "bottleneck": bottleneck,
            "compression": 0.5 if bottleneck else 1.0,
            "stem": "cifar",
            "num_classes": 10,
        },
        claims=Claims(params, macs, printed),
        depth=depth,
        inputs=(ImageInput((3, 32, 32), min_size=4),),
        results=tuple(results),
        tiny={"blocks": (2, 1, 2), "growth": 12},
        note=f"L={depth}, k={growth}, {kind}",
    )


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Densely Connected Convolutional Networks",
        authors="G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger",
        year=2017,
        venue="CVPR",
        arxiv="1608.06993",
        doi="10.1109/CVPR.2017.243",
    ),
    build=DenseNet,
    variants={
        # Table 1: depth, layers of the blocks, channels after them; exact counts;
        # Table 3: top-1 and top-5 error in %, single crop and 10 crops
        "densenet121": imagenet(
            depth=121, blocks=(6, 12, 24, 16), channels=(256, 512, 1024, 1024), params=7_978_856, macs=2_834_161_664,
            single=(25.02, 7.71), ten=(23.61, 6.66),
        ),
        "densenet169": imagenet(
            depth=169, blocks=(6, 12, 32, 32), channels=(256, 512, 1280, 1664), params=14_149_480, macs=3_359_843_328,
            single=(23.80, 6.85), ten=(22.08, 5.92),
        ),
        "densenet201": imagenet(
            depth=201, blocks=(6, 12, 48, 32), channels=(256, 512, 1792, 1920), params=20_013_928, macs=4_291_365_888,
            single=(22.58, 6.34), ten=(21.46, 5.54),
        ),
        "densenet264": imagenet(
            depth=264, blocks=(6, 12, 64, 48), channels=(256, 512, 2304, 2688), params=33_337_704, macs=5_751_653_376,
            single=(22.15, 6.12), ten=(20.80, 5.29),
        ),
        "densenet161": imagenet(
            depth=161, blocks=(6, 12, 36, 24), growth=48, channels=(384, 768, 2112, 2208), params=28_681_000, macs=7_727_907_072,
            source="Table 1 of the earlier versions", note="growth rate 48",
        ),
        # Table 2: L, k, BC or not; channels after the blocks; exact counts;
        # Table 2: millions of parameters, error in % with augmentation and without
        "densenet40_k12_cifar10": cifar(
            depth=40, growth=12, bottleneck=False, channels=(160, 304, 448), params=1_019_722, macs=264_812_928,
            millions=1.0, augmented=5.24, plain=7.00,
        ),
        "densenet100_k12_cifar10": cifar(
            depth=100, growth=12, bottleneck=False, channels=(400, 784, 1168), params=6_979_642, macs=1_769_516_448,
            millions=7.0, augmented=4.10, plain=5.77,
        ),
        "densenet100_k24_cifar10": cifar(
            depth=100, growth=24, bottleneck=False, channels=(784, 1552, 2320), params=27_249_082, macs=6_889_347_744,
            millions=27.2, augmented=3.74, plain=5.83,
        ),
        "densenet_bc100_k12_cifar10": cifar(
            depth=100, growth=12, bottleneck=True, channels=(216, 300, 342), params=769_162, macs=287_929_692,
            millions=0.8, augmented=4.51, plain=5.92,
        ),
        "densenet_bc250_k24_cifar10": cifar(
            depth=250, growth=24, bottleneck=True, channels=(1032, 1500, 1734), params=15_324_406, macs=5_418_785_724,
            millions=15.3, augmented=3.62, plain=5.19,
        ),
        "densenet_bc190_k40_cifar10": cifar(
            depth=190, growth=40, bottleneck=True, channels=(1320, 1900, 2190), params=25_624_430, macs=9_301_945_740,
            millions=25.6, augmented=3.46,
        ),
    },
)
