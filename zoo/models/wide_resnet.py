"""Wide ResNet: fewer residual blocks, each with many more channels.

S. Zagoruyko, N. Komodakis. Wide Residual Networks. BMVC 2016, arXiv:1605.07146.
CIFAR-10 nets WRN-d-k: Table 1; block types B(...): section 2.1 and Table 2; dropout:
section 2.4; ImageNet nets: Table 8; results: Tables 5, 6, 8 and 9.

The rows wrn{d}_{k}_cifar10 have blocks B(3,3) in full pre-activation. `kernels` gives
the other types, (3, 1, 3) for B(3,1,3); `drop_rate` the dropout between a block's
convolutions, 0.3 on CIFAR-10 and 0.4 on SVHN. wide_resnet50_2 is WRN-50-2-bottleneck.

Readings
- A block that changes the number of channels has one batch norm and ReLU before the
  split, which feed the 1x1 projection too, as in the authors' code; elsewhere the
  shortcut takes the block's input as it is. A projection there has no batch norm.
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
from zoo.figures import CIFAR10_TEST, error_rates, residual_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers.neck import global_pool
from zoo.layers.residual import (
    BasicBlock,
    Bottleneck,
    add_stages,
    add_stem,
    conv,
    init_he_,
    make_shortcut,
)
from zoo.spec import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    Claims,
    Family,
    ImageInput,
    Paper,
    PrintedFigure,
    Result,
    Variant,
)


class WideBlock(nn.Module):
    """B(`kernels`): BN-ReLU-convolution per kernel, dropout before all but the first.

    (N, C, H, W) to (N, out_chans, H / stride, W / stride); the first convolution has
    the stride.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        stride: int,
        *,
        kernels: tuple[int, ...],
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.shared = in_chans != out_chans or stride > 1
        self.bn1 = nn.BatchNorm2d(in_chans)
        self.relu1 = nn.ReLU(inplace=True)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = conv(in_chans, out_chans, kernels[0], stride)
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

    `stem` "cifar": 16k, 32k and 64k channels in blocks B(`kernels`), with dropout.
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
                f"WideResNet: kernels={kernels}, drop_rate={drop_rate}: expected (3, 3) or "
                "(1, 3, 1), and no dropout, on ImageNet"
            )
        self.fan = "out" if imagenet else "in"

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            if not imagenet:
                return WideBlock(in_chans, out_chans, stride, kernels=kernels, drop_rate=drop_rate)
            downsample = make_shortcut("B", in_chans, out_chans, stride)
            if len(kernels) == 3:
                inner = int(out_chans / 4 * widen)
                return Bottleneck(in_chans, inner, out_chans, stride, downsample=downsample)
            return BasicBlock(in_chans, out_chans, stride, downsample)

        if imagenet:
            first = 256 if len(kernels) == 3 else int(64 * widen)  # channels of the first stage
            add_stem(self, stem, 64)  # (N, 64, H / 2, W / 2)
            channels = add_stages(self, stem, blocks, first, block=block)
            self.neck = global_pool()  # (N, channels)
        else:
            add_stem(self, stem, 16, norm=False, relu=False)  # (N, 16, H, W)
            channels = add_stages(self, stem, blocks, int(16 * widen), block=block)
            last = {"bn": nn.BatchNorm2d(channels), "relu": nn.ReLU(inplace=True)}
            self.neck = global_pool(last)  # (N, channels)
        self.head_hidden_size = channels
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module, self.fan)


def cifar(
    *,
    depth: int,
    k: int,
    drop_rate: float = 0.0,
    params: int,
    macs: int,
    printed: PrintedFigure,
    results: tuple[Result, ...],
    note: str = "no dropout",
) -> Variant:
    """WRN-depth-k with its `printed` parameters and its errors."""
    n = (depth - 4) // 6
    reason = "it counts the three projections, but not the last linear layer"
    figures = (
        printed,
        PrintedFigure("depth", depth, "Table 4", reason=reason),
        *residual_outputs("Table 1", "cifar", channels=16 * k),
    )
    return Variant(
        model_args={"blocks": (n, n, n), "widen": k, "drop_rate": drop_rate},
        claims=Claims(params, macs, figures),
        depth=depth,
        inputs=(ImageInput((3, 32, 32), mean=CIFAR10_MEAN, std=CIFAR10_STD),),
        results=results,
        tiny={"blocks": (2, 1, 1), "widen": 2},
        note=note,
    )


def imagenet(
    *,
    blocks: tuple[int, ...],
    params: int,
    macs: int,
    printed: tuple[PrintedFigure, ...] = (),
    results: tuple[Result, ...] = (),
    note: str,
) -> Variant:
    """A bottleneck net with doubled inner convolutions, with what is printed of it."""
    outputs = residual_outputs("ResNet paper, Table 1", "imagenet", channels=256)
    return Variant(
        model_args={
            "blocks": blocks,
            "widen": 2,
            "stem": "imagenet",
            "kernels": (1, 3, 1),
            "num_classes": 1000,
        },
        claims=Claims(params, macs, (*printed, *outputs)),
        depth=3 * sum(blocks) + 2,
        results=results,
        tiny={"blocks": (2, 1, 1, 1)},
        note=note,
    )


def million(value: float, source: str = "Table 4", resolution: float = 1e5) -> PrintedFigure:
    """Parameters in millions."""
    return PrintedFigure("params", value * 1e6, source, resolution=resolution)


def error(
    value: float, source: str, protocol: str = "median of 5 runs", data: str = CIFAR10_TEST
) -> tuple[Result, ...]:
    """A top-1 error."""
    return error_rates(top1=value, data=data, protocol=protocol, source=source)


def top_1_and_5(top1: float, top5: float, source: str) -> tuple[Result, ...]:
    """Errors on ImageNet."""
    protocol = "single network, single crop"
    return error_rates(top1=top1, top5=top5, protocol=protocol, source=source)


SVHN = "SVHN test"
PRINTED_50_2 = (million(68.9, "Table 8"), PrintedFigure("depth", 50, "Table 8"))
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
        # depth, k; exact counts; parameters (Table 4); errors in %: Tables 5, 6 and 9
        "wrn16_8_cifar10": cifar(
            depth=16, k=8, params=10_961_370, macs=1_548_145_664, printed=million(11.0),
            results=(*error(4.27, "Table 5"), *error(1.54, "Table 9", "single run, dropout 0.4", SVHN)),
        ),
        "wrn28_10_cifar10": cifar(
            depth=28, k=10, params=36_479_194, macs=5_243_328_768, printed=million(36.5),
            results=(*error(4.00, "Table 5"), *error(3.89, "Table 6", "median of 5 runs, dropout 0.3")),
        ),
        "wrn40_4_cifar10": cifar(
            depth=40, k=4, params=8_949_210, macs=1_298_582_016, printed=million(8.9), results=error(4.53, "Table 5"),
        ),
        "wrn40_10_cifar10": cifar(
            depth=40, k=10, drop_rate=0.3, params=55_841_754, macs=8_074_483_968, printed=million(56, "text", resolution=1e6),
            results=error(3.8, "Table 9", "single run, dropout 0.3"), note="dropout 0.3",
        ),
        # blocks; exact counts; what is printed; Tables 8 and 9: top-1 and top-5 error
        "wide_resnet50_2": imagenet(
            blocks=(3, 4, 6, 3), params=68_883_240, macs=11_398_021_120, printed=PRINTED_50_2,
            results=(*top_1_and_5(21.9, 6.03, "Table 8"), *top_1_and_5(21.9, 5.79, "Table 9")), note="WRN-50-2-bottleneck",
        ),
        "wide_resnet101_2": imagenet(
            blocks=(3, 4, 23, 3), params=126_886_696, macs=22_753_050_624, note="torchvision's, not in the paper",
        ),
    },
)
