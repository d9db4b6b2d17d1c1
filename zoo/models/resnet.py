"""ResNet: nets of residual blocks, 18 to 152 layers deep on ImageNet and 20 to 1202 on
CIFAR-10, and their plain counterparts.

K. He, X. Zhang, S. Ren, J. Sun. Deep Residual Learning for Image Recognition. CVPR
2016, arXiv:1512.03385. Blocks and shortcut options A, B, C: section 3.3; ImageNet nets:
Table 1; CIFAR-10 nets: section 4.2; results: Tables 3, 4, 6.

Readings
- The bottleneck's stride is in its first 1x1, as in the released nets; the FLOPs of
  Table 1 agree with that alone. The `_v1_5` rows have it in the 3x3, as fb.resnet.torch
  and torchvision do: equal shapes, another function.
- The first pool, of which Table 1 prints 3x3 and stride 2, has one cell of padding
  around it, as in fb.resnet.torch and all ports. The authors' released Caffe nets pad
  behind only (Caffe rounds up): equal sizes, windows one cell further.
- Table 1 does not say which shortcut its 18- and 34-layer nets have: here B, as in the
  deeper ones.
- Option A appends its zero channels after the identity's, as fb.resnet.torch does;
  `shortcut_pad="both"` puts half of them before.
- Initialisation: section 3.4 refers to He et al. 2015 for all weights: N(0, 2 /
  fan-out) for convolutions, N(0, 2 / fan-in) for the head, biases 0.

Departures
- Inputs are RGB in [0, 1], normalised per channel with ImageNet's mean and standard
  deviation, in the CIFAR-10 nets too; the paper subtracts a mean per pixel from 0..255.
- Batch norms use their moving averages in evaluation; the paper computes the statistics
  anew after training.
"""

from torch import nn

from zoo.errors import check_choice
from zoo.figures import CIFAR10_TEST, error_rates, residual_outputs, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers.neck import global_pool
from zoo.layers.residual import (
    BasicBlock,
    Bottleneck,
    add_stages,
    add_stem,
    init_he_,
    make_shortcut,
)
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant


class ResNet(Classifier):
    """ResNet. `blocks` is a column of Table 1: the blocks of each stage. Input (N,
    in_chans, H, W) of any size.

    `bottleneck`: which block. `shortcut`: option "A", "B" or "C" of section 3.3, or ""
    for the plain net. `shortcut_pad`: where option A puts its zero channels, "after" or
    "both". `stride_in`: a bottleneck's strided convolution, "1x1" or "3x3". `stem`:
    "imagenet" (Table 1) or "cifar" (section 4.2: 16, 32 and 64 channels, no pooling).
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        bottleneck: bool = False,
        shortcut: str = "B",
        shortcut_pad: str = "after",
        stride_in: str = "1x1",
        stem: str = "imagenet",
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("ResNet", "shortcut", shortcut, ("A", "B", "C", ""))
        check_choice("ResNet", "shortcut_pad", shortcut_pad, ("after", "both"))
        check_choice("ResNet", "stride_in", stride_in, ("1x1", "3x3"))

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            downsample = None
            if shortcut:
                downsample = make_shortcut(shortcut, in_chans, out_chans, stride, pad=shortcut_pad)
            if bottleneck:
                inner = out_chans // 4
                return Bottleneck(
                    in_chans, inner, out_chans, stride, downsample=downsample, stride_in=stride_in
                )
            return BasicBlock(in_chans, out_chans, stride, downsample)

        width = 64 if stem == "imagenet" else 16
        first = 4 * width if bottleneck else width  # channels of the first stage
        add_stem(self, stem, width)  # (N, width, H / 2, W / 2), CIFAR: (N, width, H, W)
        self.head_hidden_size = add_stages(self, stem, blocks, first, block=block)
        self.neck = global_pool()  # (N, head_hidden_size)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module)


def row(
    *,
    blocks: tuple[int, ...],
    bottleneck: bool = False,
    shortcut: str = "B",
    stride_in: str = "1x1",
    params: int,
    macs: int,
    flops: float = 0,
    ten_crops: tuple[float, float] | None = None,
    many_scales: tuple[float, float] | None = None,
    note: str = "",
) -> Variant:
    """A column of Table 1 with its `flops`, which are multiply-adds, and its top-1 and
    top-5 errors with 10 crops (Table 3) and at many scales (Table 4).
    """
    depth = 2 + sum(blocks) * (3 if bottleneck else 2)
    printed = [
        *stage_outputs("Table 1", {"conv1": (64, 112, 112)}),
        *residual_outputs("Table 1", "imagenet", channels=256 if bottleneck else 64),
        PrintedFigure("depth", depth, "Table 1"),
    ]
    if flops:
        source = "Table 1" if shortcut else "section 3.3"
        printed.append(PrintedFigure("macs", flops, source, resolution=1e8))
    results: list[Result] = []
    for errors, protocol, source in (
        (ten_crops, "single network, 10 crops", "Table 3"),
        (many_scales, "single network, many scales", "Table 4"),
    ):
        if errors:
            top1, top5 = errors
            results += error_rates(top1=top1, top5=top5, protocol=protocol, source=source)
    return Variant(
        model_args={
            "blocks": blocks,
            "bottleneck": bottleneck,
            "shortcut": shortcut,
            "stride_in": stride_in,
        },
        claims=Claims(params, macs, tuple(printed)),
        depth=depth,
        results=tuple(results),
        tiny={"blocks": (2, 1, 1, 1)},
        note=note,
    )


def cifar(
    *,
    n: int,
    shortcut: str = "A",
    params: int,
    macs: int,
    printed: float = 0,
    resolution: float = 1e4,
    errors: tuple[Result, ...] = (),
) -> Variant:
    """A net of 6n + 2 layers (section 4.2) with its `printed` parameters and its errors
    (Table 6).
    """
    figures = [
        PrintedFigure("depth", 6 * n + 2, "section 4.2"),
        *residual_outputs("section 4.2", "cifar", channels=16),
    ]
    if printed:
        figures.append(PrintedFigure("params", printed, "Table 6", resolution=resolution))
    return Variant(
        model_args={
            "blocks": (n, n, n),
            "shortcut": shortcut,
            "stem": "cifar",
            "num_classes": 10,
        },
        claims=Claims(params, macs, tuple(figures)),
        depth=6 * n + 2,
        inputs=(ImageInput((3, 32, 32)),),
        results=errors,
        tiny={"blocks": (2, 1, 1)},
        note="shortcut option A" if shortcut else "plain: no shortcuts",
    )


def table_6(
    error: float,
    protocol: str = "single network, shifts and mirroring",
    source: str = "Table 6",
) -> tuple[Result, ...]:
    return error_rates(top1=error, data=CIFAR10_TEST, protocol=protocol, source=source)


PAPER = "stride in the first 1x1"
V1_5 = "stride in the 3x3, as fb.resnet.torch and torchvision have it"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Deep Residual Learning for Image Recognition",
        authors="K. He, X. Zhang, S. Ren, J. Sun",
        year=2016,
        venue="CVPR",
        arxiv="1512.03385",
        doi="10.1109/CVPR.2016.90",
    ),
    build=ResNet,
    variants={
        # Table 1: blocks; exact counts; Table 1: FLOPs;
        # Tables 3 and 4: top-1 and top-5 error in %
        "resnet18": row(blocks=(2, 2, 2, 2), params=11_689_512, macs=1_814_073_344, flops=1.8e9),
        "resnet34": row(
            blocks=(3, 4, 6, 3), params=21_797_672, macs=3_663_761_408, flops=3.6e9,
            ten_crops=(24.52, 7.46), many_scales=(21.84, 5.71), note="shortcut option B",
        ),
        "resnet50": row(
            blocks=(3, 4, 6, 3), bottleneck=True, params=25_557_032, macs=3_857_973_248, flops=3.8e9,
            ten_crops=(22.85, 6.71), many_scales=(20.74, 5.25), note=PAPER,
        ),
        "resnet101": row(
            blocks=(3, 4, 23, 3), bottleneck=True, params=44_549_160, macs=7_570_194_432, flops=7.6e9,
            ten_crops=(21.75, 6.05), many_scales=(19.87, 4.60), note=PAPER,
        ),
        "resnet152": row(
            blocks=(3, 8, 36, 3), bottleneck=True, params=60_192_808, macs=11_282_415_616, flops=11.3e9,
            ten_crops=(21.43, 5.71), many_scales=(19.38, 4.49), note=PAPER,
        ),
        # fb.resnet.torch: blocks; exact counts
        "resnet50_v1_5": row(
            blocks=(3, 4, 6, 3), bottleneck=True, stride_in="3x3", params=25_557_032, macs=4_089_184_256, note=V1_5,
        ),
        "resnet101_v1_5": row(
            blocks=(3, 4, 23, 3), bottleneck=True, stride_in="3x3", params=44_549_160, macs=7_801_405_440, note=V1_5,
        ),
        "resnet152_v1_5": row(
            blocks=(3, 8, 36, 3), bottleneck=True, stride_in="3x3", params=60_192_808, macs=11_513_626_624, note=V1_5,
        ),
        # section 3.3, plain nets: blocks; exact counts; FLOPs; Table 3
        "plain18": row(
            blocks=(2, 2, 2, 2), shortcut="", params=11_515_688, macs=1_794_805_760, note="resnet18 without shortcuts",
        ),
        "plain34": row(
            blocks=(3, 4, 6, 3), shortcut="", params=21_623_848, macs=3_644_493_824, flops=3.6e9,
            ten_crops=(28.54, 10.02), note="resnet34 without shortcuts",
        ),
        # section 4.2: n; exact counts; Table 6: parameters, error in %
        "resnet20_cifar10": cifar(n=3, params=269_722, macs=40_551_040, printed=0.27e6, errors=table_6(8.75)),
        "resnet32_cifar10": cifar(n=5, params=464_154, macs=68_862_592, printed=0.46e6, errors=table_6(7.51)),
        "resnet44_cifar10": cifar(n=7, params=658_586, macs=97_174_144, printed=0.66e6, errors=table_6(7.17)),
        "resnet56_cifar10": cifar(n=9, params=853_018, macs=125_485_696, printed=0.85e6, errors=table_6(6.97)),
        "resnet110_cifar10": cifar(
            n=18, params=1_727_962, macs=252_887_680, printed=1.7e6, resolution=1e5,
            errors=(*table_6(6.43, "best of 5 runs"), *table_6(6.61, "mean of 5 runs", "Table 6, ± 0.16")),
        ),
        "resnet1202_cifar10": cifar(
            n=200, params=19_421_274, macs=2_829_238_912, printed=19.4e6, resolution=1e5, errors=table_6(7.93),
        ),
        "plain20_cifar10": cifar(n=3, shortcut="", params=269_722, macs=40_551_040),
        "plain32_cifar10": cifar(n=5, shortcut="", params=464_154, macs=68_862_592),
        "plain44_cifar10": cifar(n=7, shortcut="", params=658_586, macs=97_174_144),
        "plain56_cifar10": cifar(n=9, shortcut="", params=853_018, macs=125_485_696),
    },
)
