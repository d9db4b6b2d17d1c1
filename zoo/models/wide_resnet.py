"""Wide ResNet: fewer residual blocks, each with many more maps.

S. Zagoruyko, N. Komodakis. Wide Residual Networks. BMVC 2016, arXiv:1605.07146.
CIFAR-10 nets WRN-d-k: Table 1; block types B(...): section 2.1 and Table 2; dropout:
section 2.4; ImageNet nets: Table 8; results: Tables 5, 6, 8 and 9.

The rows wrn{d}_{k}_cifar10 have blocks B(3,3) in full pre-activation. `kernels` gives
the other types, (3, 1, 3) for B(3,1,3); `drop_rate` the dropout between a block's
convolutions, 0.3 on CIFAR-10 and 0.4 on SVHN. wide_resnet50_2 is WRN-50-2-bottleneck.

Readings
- A block that changes the number of maps has one batch norm and ReLU before the split,
  which feed the 1x1 projection too, as in the authors' code; elsewhere the shortcut
  takes the block's input as it is. A projection there has no batch norm.
- The depth d counts the first convolution, the 6n of the blocks and three projections,
  but not the last linear layer. The parameters that Table 2 prints for types of three
  convolutions agree with n = (d - 4) / 6 blocks per group too: there d counts less.
- The ImageNet nets are ResNets after the addition's ReLU (option B), of whose
  bottlenecks only the inner convolutions are widened; the stride is in the 3x3, as in
  fb.resnet.torch.
- wrn40_10_cifar10 has dropout, as the only result of that size in the paper.
- wide_resnet101_2 is torchvision's, not the paper's.

Departures
- CIFAR-10 inputs are normalised per channel, as for Table 5; the paper's Tables 2 to 4
  whiten them by ZCA.
- Initialisation: He with fan-in on CIFAR-10 and fan-out on ImageNet, the head too; the
  authors' code draws its head uniformly.
"""

from collections import OrderedDict

from torch import Tensor, nn

from zoo.errors import InputError
from zoo.layers.classifier import Classifier
from zoo.layers.residual import (
    BasicBlock,
    Bottleneck,
    add_stages,
    add_stem,
    conv,
    init_he_,
    make_shortcut,
    pooling,
)
from zoo.spec import CIFAR10_MEAN, CIFAR10_STD, Claims, Family, Paper, Printed, Result, Variant


class WideBlock(nn.Module):
    """B(`kernels`): BN-ReLU-convolution, once per kernel, dropout before all but the
    first.

    (N, C, H, W) to (N, out_chans, H / stride, W / stride); the first convolution has
    the stride.
    """

    def __init__(
        self, in_chans: int, out_chans: int, stride: int, kernels: tuple[int, ...], drop_rate: float
    ) -> None:
        super().__init__()
        self.shared = in_chans != out_chans or stride > 1
        self.bn1 = nn.BatchNorm2d(in_chans)
        self.relu1 = nn.ReLU(inplace=True)
        layers = OrderedDict[str, nn.Module](conv1=conv(in_chans, out_chans, kernels[0], stride))
        for i, kernel in enumerate(kernels[1:], 2):
            layers[f"bn{i}"] = nn.BatchNorm2d(out_chans)
            layers[f"relu{i}"] = nn.ReLU(inplace=True)
            layers[f"drop{i}"] = nn.Dropout(drop_rate)
            layers[f"conv{i}"] = conv(out_chans, out_chans, kernel)
        self.branch = nn.Sequential(layers)
        self.shortcut = make_shortcut("B", in_chans, out_chans, stride, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        return self.branch(active) + self.shortcut(active if self.shared else x)


class WideResNet(Classifier):
    """Wide ResNet. `blocks`: per group; `widen`: the factor k. Input (N, in_chans, H,
    W) of any size.

    `stem` "cifar": 16k, 32k and 64k maps in blocks B(`kernels`), with dropout.
    "imagenet": basic blocks k times as wide for kernels (3, 3), and for (1, 3, 1)
    bottlenecks whose inner convolutions are; no dropout. Raises InputError for others.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        widen: float,
        stem: str = "cifar",
        kernels: tuple[int, ...] = (3, 3),
        num_classes: int = 10,
        in_chans: int = 3,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(num_classes, in_chans)
        imagenet = stem == "imagenet"
        if imagenet and (kernels not in ((3, 3), (1, 3, 1)) or drop_rate):
            raise InputError(
                f"kernels={kernels}, drop_rate={drop_rate}: WideResNet on ImageNet has (3, 3) or (1, 3, 1) and no dropout"
            )

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            if not imagenet:
                return WideBlock(in_chans, out_chans, stride, kernels, drop_rate)
            downsample = make_shortcut("B", in_chans, out_chans, stride)
            if len(kernels) == 3:
                return Bottleneck(
                    in_chans, int(out_chans / 4 * widen), out_chans, stride, downsample
                )
            return BasicBlock(in_chans, out_chans, stride, downsample)

        self.fan = "out" if imagenet else "in"
        if imagenet:
            add_stem(self, stem, 64)  # (N, 64, H / 2, W / 2)
            self.num_features = add_stages(
                self, stem, blocks, 256 if len(kernels) == 3 else int(64 * widen), block
            )
            self.neck = pooling()
        else:
            add_stem(self, stem, 16, norm=False, relu=False)  # (N, 16, H, W)
            self.num_features = add_stages(self, stem, blocks, int(16 * widen), block)
            last = OrderedDict[str, nn.Module](
                bn=nn.BatchNorm2d(self.num_features), relu=nn.ReLU(inplace=True)
            )
            self.neck = nn.Sequential(last | OrderedDict(pooling().named_children()))
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module, self.fan)


def cifar(
    depth,
    k,
    params,
    macs,
    printed,
    results=(),
    unit=1e5,
    where="Table 4",
    note="no dropout",
    **fields,
) -> Variant:  # type: ignore[no-untyped-def]
    """WRN-depth-k with its parameters, and its errors (data, protocol, error,
    where).
    """
    n = (depth - 4) // 6
    groups = (
        Printed(
            "output", (16 * k << i, 32 >> i, 32 >> i), "Table 1", module=f"features.stage{i + 1}"
        )
        for i in range(3)
    )
    reason = "it counts the three projections, but not the last linear layer"
    return Variant(
        fields={"blocks": (n, n, n), "widen": k, **fields},
        claims=Claims(
            params,
            macs,
            (
                Printed("params", printed, where, unit=unit),
                Printed("depth", depth, "Table 4", reason=reason),
                *groups,
            ),
        ),
        depth=depth,
        input_size=(3, 32, 32),
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        results=tuple(
            Result("top-1 error %", error, f"{data} test", protocol, where)
            for data, protocol, error, where in results
        ),
        note=note,
    )


def imagenet(blocks, params, macs, printed=(), results=(), note="") -> Variant:  # type: ignore[no-untyped-def]
    """A bottleneck net with doubled inner convolutions, and its errors (top-1, top-5,
    where).
    """
    outputs = (
        Printed(
            "output",
            (256 << i, 56 >> i, 56 >> i),
            "ResNet paper, Table 1",
            module=f"features.conv{i + 2}_x",
        )
        for i in range(4)
    )
    return Variant(
        fields={
            "blocks": blocks,
            "widen": 2,
            "stem": "imagenet",
            "kernels": (1, 3, 1),
            "num_classes": 1000,
        },
        claims=Claims(params, macs, (*printed, *outputs)),
        depth=3 * sum(blocks) + 2,
        results=tuple(
            Result(
                f"top-{k} error %", value, "ILSVRC-2012 val", "single network, single crop", where
            )
            for *values, where in results
            for k, value in zip((1, 5), values, strict=True)
        ),
        note=note,
    )


MEDIAN, DROPOUT = "median of 5 runs", "median of 5 runs, dropout 0.3"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Wide Residual Networks",
        authors="S. Zagoruyko, N. Komodakis",
        year=2016,
        venue="BMVC",
        arxiv="1605.07146",
        doi="10.5244/C.30.87",
    ),
    build=WideResNet,
    variants={
        "wrn16_8_cifar10": cifar(
            16,
            8,
            10_961_370,
            1_548_145_664,
            11.0e6,
            [("CIFAR-10", MEDIAN, 4.27, "Table 5"), ("SVHN", "single run, dropout 0.4", 1.54, "Table 9")],
        ),
        "wrn28_10_cifar10": cifar(
            28,
            10,
            36_479_194,
            5_243_328_768,
            36.5e6,
            [("CIFAR-10", MEDIAN, 4.00, "Table 5"), ("CIFAR-10", DROPOUT, 3.89, "Table 6")],
        ),
        "wrn40_4_cifar10": cifar(40, 4, 8_949_210, 1_298_582_016, 8.9e6, [("CIFAR-10", MEDIAN, 4.53, "Table 5")]),
        "wrn40_10_cifar10": cifar(
            40,
            10,
            55_841_754,
            8_074_483_968,
            56e6,
            [("CIFAR-10", "single run, dropout 0.3", 3.8, "Table 9")],
            unit=1e6,
            where="text",
            note="dropout 0.3",
            drop_rate=0.3,
        ),
        "wide_resnet50_2": imagenet(
            (3, 4, 6, 3),
            68_883_240,
            11_398_021_120,
            (Printed("params", 68.9e6, "Table 8", unit=1e5), Printed("depth", 50, "Table 8")),
            [(21.9, 6.03, "Table 8"), (21.9, 5.79, "Table 9")],
            "WRN-50-2-bottleneck",
        ),
        "wide_resnet101_2": imagenet((3, 4, 23, 3), 126_886_696, 22_753_050_624, note="torchvision's, not in the paper"),
    },
)
