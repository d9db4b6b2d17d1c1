"""DenseNet: in a dense block every layer sees the maps of all layers before it.

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
- The first convolution has 16 maps, twice the growth rate in the BC networks and on
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

from zoo.errors import InputError
from zoo.layers import init
from zoo.layers.classifier import Classifier, frozen_statistics
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant


class DenseLayer(nn.Module):
    """H of section 3: all maps of the block so far, together (N, C, H, W), to `growth`
    new ones.

    BN-ReLU-3x3, or with `bottleneck` BN-ReLU-1x1 (4 growth maps)-BN-ReLU-3x3.
    """

    def __init__(
        self, in_chans: int, growth: int, bottleneck: bool, drop_rate: float, memory_efficient: bool
    ) -> None:
        super().__init__()
        self.memory_efficient = memory_efficient
        width = 4 * growth if bottleneck else growth
        self.norm1 = nn.BatchNorm2d(in_chans)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(
            in_chans, width, 1 if bottleneck else 3, padding=0 if bottleneck else 1, bias=False
        )
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
        if (
            recompute and not torch.compiler.is_compiling()
        ):  # a compiler decides on its own what to keep
            # recomputing ends before the convolution, whose output backward does not
            # need
            x = checkpoint(
                self.reduce,
                *maps,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), frozen_statistics(self.norm1)),
            )
        else:
            x = self.reduce(*maps)
        x = self.drop1(x)
        return (
            self.drop2(self.conv2(self.relu2(self.norm2(x)))) if self.bottleneck else x
        )  # (N, growth, H, W)


class DenseBlock(nn.Module):
    """Dense layers one after another: (N, C, H, W) -> (N, C + layers * growth, H,
    W).
    """

    def __init__(
        self,
        layers: int,
        in_chans: int,
        growth: int,
        bottleneck: bool,
        drop_rate: float,
        memory_efficient: bool,
    ) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(
                f"denselayer{i + 1}",
                DenseLayer(in_chans + i * growth, growth, bottleneck, drop_rate, memory_efficient),
            )

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
    """DenseNet. `blocks`: the layers of each dense block; `growth`: the maps that a
    layer adds, k. Input (N, in_chans, H, W).

    `bottleneck`: B; `compression`: theta of the transitions; `stem`: "imagenet" (Table
    1) or "cifar" (a 3x3 convolution, no pooling); `memory_efficient`: recompute instead
    of keeping in training. Raises InputError for an unknown `stem`.
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
        if stem not in ("imagenet", "cifar"):
            raise InputError(f"stem={stem!r}: DenseNet knows 'imagenet' and 'cifar'")
        channels = 2 * growth if bottleneck else 16
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if stem == "imagenet":
            layers["conv"] = nn.Conv2d(in_chans, channels, 7, 2, padding=3, bias=False)
            layers["norm"] = nn.BatchNorm2d(channels)
            layers["relu"] = nn.ReLU(inplace=True)
        else:
            layers["conv"] = nn.Conv2d(in_chans, channels, 3, padding=1, bias=False)
        reduction = 2 if stem == "imagenet" else 1
        self.add_stage(
            "stem", nn.Sequential(layers), channels, reduction
        )  # (N, channels, H / reduction, ...)
        for number, count in enumerate(blocks, 1):
            stage: OrderedDict[str, nn.Module] = OrderedDict()
            if number > 1:
                compressed = math.floor(compression * channels)
                stage["transition"] = transition(channels, compressed, drop_rate)
                channels = compressed
            elif stem == "imagenet":
                stage["pool"] = nn.MaxPool2d(3, 2, padding=1)
            stage["dense"] = DenseBlock(
                count, channels, growth, bottleneck, drop_rate, memory_efficient
            )
            channels += count * growth
            if number == len(blocks):
                stage["norm"] = nn.BatchNorm2d(channels)
                stage["relu"] = nn.ReLU(inplace=True)
            reduction *= 2 if number > 1 or stem == "imagenet" else 1
            self.add_stage(
                f"stage{number}", nn.Sequential(stage), channels, reduction
            )  # (N, channels, H / reduction, ...)
        self.num_features = channels
        self.neck = nn.Sequential(
            OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        )  # (N, channels)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.he_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            init.uniform_(module.weight, 1 / math.sqrt(module.in_features))
            init.constant_(module.bias, 0)


def outputs(where: str, channels: tuple[int, ...], side: int) -> list[Printed]:
    """The maps after each dense block; the side halves from block to block."""
    return [
        Printed("output", (c, side >> i, side >> i), where, module=f"features.stage{i + 1}")
        for i, c in enumerate(channels)
    ]


def imagenet(
    depth, blocks, growth, channels, params, macs, errors=(), where="Table 1", note=""
) -> Variant:  # type: ignore[no-untyped-def]
    """A column of Table 1 with its errors in per cent (Table 3: top-1 and top-5, single
    crop, then 10 crops).
    """
    counted = 1 + 2 * sum(blocks) + 3 + 1
    reason = f"the layers of its column are {counted}" if counted != depth else ""
    stem = Printed("output", (2 * growth, 112, 112), where, module="features.stem")
    return Variant(
        fields={"blocks": blocks, "growth": growth},
        claims=Claims(
            params,
            macs,
            (stem, *outputs(where, channels, 56), Printed("depth", depth, where, reason=reason)),
        ),
        depth=depth,
        min_input=29,
        results=tuple(
            Result(
                f"top-{k} error %", value, "ILSVRC-2012 val", f"single network, {crops}", "Table 3"
            )
            for (k, crops), value in zip(
                [(1, "single crop"), (5, "single crop"), (1, "10 crops"), (5, "10 crops")],
                errors,
                strict=False,
            )
        ),
        note=note,
    )


def cifar(depth, growth, channels, params, macs, millions, errors, **fields) -> Variant:  # type: ignore[no-untyped-def]
    """A row of Table 2 with its parameters in millions and its errors in per cent, with
    augmentation and without.
    """
    layers = (depth - 4) // (6 if fields["bottleneck"] else 3)
    return Variant(
        fields={
            "blocks": (layers,) * 3,
            "growth": growth,
            "stem": "cifar",
            "num_classes": 10,
            **fields,
        },
        claims=Claims(
            params,
            macs,
            (
                Printed("params", round(millions * 1e6), "Table 2", unit=1e5),
                Printed("depth", depth, "Table 2"),
                *outputs("section 3", channels, 32),
            ),
        ),
        depth=depth,
        input_size=(3, 32, 32),
        min_input=4,
        results=tuple(
            Result("top-1 error %", value, "CIFAR-10 test", protocol, "Table 2")
            for value, protocol in zip(
                errors,
                (
                    "single network, shifts and mirroring",
                    "single network, no augmentation, dropout",
                ),
                strict=False,
            )
        ),
        note=f"L={depth}, k={growth}"
        + (", bottleneck and compression" if fields["bottleneck"] else ", basic"),
    )


BASIC = {"bottleneck": False, "compression": 1.0}
BC = {"bottleneck": True}
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
        "densenet121": imagenet(121, (6, 12, 24, 16), 32, (256, 512, 1024, 1024), 7_978_856, 2_834_161_664, (25.02, 7.71, 23.61, 6.66)),
        "densenet169": imagenet(169, (6, 12, 32, 32), 32, (256, 512, 1280, 1664), 14_149_480, 3_359_843_328, (23.80, 6.85, 22.08, 5.92)),
        "densenet201": imagenet(201, (6, 12, 48, 32), 32, (256, 512, 1792, 1920), 20_013_928, 4_291_365_888, (22.58, 6.34, 21.46, 5.54)),
        "densenet264": imagenet(264, (6, 12, 64, 48), 32, (256, 512, 2304, 2688), 33_337_704, 5_751_653_376, (22.15, 6.12, 20.80, 5.29)),
        "densenet161": imagenet(
            161,
            (6, 12, 36, 24),
            48,
            (384, 768, 2112, 2208),
            28_681_000,
            7_727_907_072,
            where="Table 1 of the earlier versions",
            note="growth rate 48",
        ),
        "densenet40_k12_cifar10": cifar(40, 12, (160, 304, 448), 1_019_722, 264_812_928, 1.0, (5.24, 7.00), **BASIC),
        "densenet100_k12_cifar10": cifar(100, 12, (400, 784, 1168), 6_979_642, 1_769_516_448, 7.0, (4.10, 5.77), **BASIC),
        "densenet100_k24_cifar10": cifar(100, 24, (784, 1552, 2320), 27_249_082, 6_889_347_744, 27.2, (3.74, 5.83), **BASIC),
        "densenet_bc100_k12_cifar10": cifar(100, 12, (216, 300, 342), 769_162, 287_929_692, 0.8, (4.51, 5.92), **BC),
        "densenet_bc250_k24_cifar10": cifar(250, 24, (1032, 1500, 1734), 15_324_406, 5_418_785_724, 15.3, (3.62, 5.19), **BC),
        "densenet_bc190_k40_cifar10": cifar(190, 40, (1320, 1900, 2190), 25_624_430, 9_301_945_740, 25.6, (3.46,), **BC),
    },
)
