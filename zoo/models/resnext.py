"""ResNeXt: residual blocks that add up many narrow branches of one shape.

S. Xie, R. Girshick, P. Dollár, Z. Tu, K. He. Aggregated Residual Transformations for
Deep Neural Networks. CVPR 2017, arXiv:1611.05431. ImageNet nets: Table 1 and section
5.1; CIFAR-10 nets: section 5.3; the three forms of a block: section 3.3, Figure 3;
results: Tables 3, 4 and 7.

A name ends in CxDd: cardinality C, the number of branches, and width D of each in the
first stage. Blocks have the form (c) of Figure 3, a grouped convolution; (a), the sum
of C branches of three convolutions, and (b), their concatenation before the last one,
compute the same.

Readings
- The stride is in the grouped 3x3, and a block that changes dimensions projects its
  shortcut (option B), as in the authors' code.
- CIFAR-10 blocks have their ReLU after the addition, as on ImageNet: the present text
  and the released code.
- Initialisation: He with the fan-out of all groups together, as in the authors' code;
  the head N(0, 2 / fan-in).
- resnext101_32x8d is a later release, not in the paper.

Departures
- Inputs are RGB in [0, 1], normalised per channel: with CIFAR-10's or ImageNet's mean
  and standard deviation.
"""

from torch import nn

from zoo.figures import CIFAR10_TEST, error_rates, residual_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers.neck import global_pool
from zoo.layers.residual import Bottleneck, add_stages, add_stem, init_he_, make_shortcut
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


class ResNeXt(Classifier):
    """ResNeXt (Table 1). `blocks`: per stage; `cardinality` C and `width` D: branches
    and their width in the first stage.

    `stem`: "imagenet", or "cifar" (section 5.3: 256, 512 and 1024 channels, no
    pooling). Input (N, in_chans, H, W) of any size.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        cardinality: int,
        width: int,
        stem: str = "imagenet",
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes, in_chans)

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            downsample = make_shortcut("B", in_chans, out_chans, stride)
            inner = cardinality * width * out_chans // 256  # doubles with the channels
            return Bottleneck(
                in_chans, inner, out_chans, stride, downsample=downsample, groups=cardinality
            )

        add_stem(self, stem, 64)  # (N, 64, H / 2, W / 2), CIFAR: (N, 64, H, W)
        self.head_hidden_size = add_stages(self, stem, blocks, 256, block=block)
        self.neck = global_pool()  # (N, head_hidden_size)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module)


def row(
    *,
    blocks: tuple[int, ...],
    cardinality: int,
    width: int,
    params: int,
    macs: int,
    printed: tuple[PrintedFigure, ...] = (),
    results: tuple[Result, ...] = (),
    note: str = "",
) -> Variant:
    """An ImageNet net with what is printed of it."""
    outputs = residual_outputs("Table 1", "imagenet", channels=256)
    return Variant(
        model_args={"blocks": blocks, "cardinality": cardinality, "width": width},
        claims=Claims(params, macs, (*printed, *outputs)),
        depth=3 * sum(blocks) + 2,
        results=results,
        tiny={"blocks": (2, 1, 1, 1)},
        note=note,
    )


def errors(source: str, *, top1: float, top5: float | None = None) -> tuple[Result, ...]:
    protocol = "single network, single crop"
    return error_rates(top1=top1, top5=top5, protocol=protocol, source=source)


def cifar(*, cardinality: int, params: int, macs: int, printed: float, error: float) -> Variant:
    """A net of 29 layers with its `printed` parameters and its error (Table 7)."""
    figures = (
        PrintedFigure("depth", 29, "section 5.3"),
        PrintedFigure("params", printed, "Table 7", resolution=1e5),
        *residual_outputs("section 5.3", "cifar", channels=256),
    )
    return Variant(
        model_args={
            "blocks": (3, 3, 3),
            "cardinality": cardinality,
            "width": 64,
            "stem": "cifar",
            "num_classes": 10,
        },
        claims=Claims(params, macs, figures),
        depth=29,
        inputs=(ImageInput((3, 32, 32), mean=CIFAR10_MEAN, std=CIFAR10_STD),),
        results=error_rates(
            top1=error, data=CIFAR10_TEST, protocol="mean of 10 runs", source="Table 7"
        ),
        tiny={"blocks": (2, 1, 1), "cardinality": 4, "width": 8},
    )


def block_weights(model: ResNeXt) -> int:
    """The weights of a block of 256 channels, without batch norms and shortcut."""
    block = model.features.get_submodule("conv2_x.1")
    return sum(conv.weight.numel() for conv in block.modules() if isinstance(conv, nn.Conv2d))


DEPTH_101 = PrintedFigure("depth", 101, "Table 3")
PRINTED_50 = (
    PrintedFigure("depth", 50, "Table 1"),
    PrintedFigure("params", 25.0e6, "Table 1", resolution=1e5),
    PrintedFigure("macs", 4.2e9, "Table 1", resolution=1e8),
    PrintedFigure("weights of a block", 70e3, "section 3.4", resolution=1e3, compute=block_weights),
)
PRINTED_101 = (
    DEPTH_101,
    PrintedFigure(
        "macs",
        7.8e9,
        "authors' repository",
        resolution=1e8,
        reason="the figure of ResNet-101, which the setting is made to match",
    ),
)
PRINTED_2X = (
    DEPTH_101,
    PrintedFigure("macs", 15e9, "Table 4", resolution=1e9),
    PrintedFigure(
        "macs",
        15.6e9,
        "authors' repository",
        resolution=1e8,
        reason="unexplained: the settings at twice the cost have 15.1 to 15.5e9",
    ),
)
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Aggregated Residual Transformations for Deep Neural Networks",
        authors="S. Xie, R. Girshick, P. Dollár, Z. Tu, K. He",
        year=2017,
        venue="CVPR",
        arxiv="1611.05431",
        doi="10.1109/CVPR.2017.634",
    ),
    build=ResNeXt,
    variants={
        # blocks, C, d; exact counts; what is printed; top-1 and top-5 error in %
        "resnext50_32x4d": row(
            blocks=(3, 4, 6, 3), cardinality=32, width=4, params=25_028_904, macs=4_230_479_872,
            printed=PRINTED_50, results=errors("Table 3", top1=22.2),
        ),
        "resnext101_32x4d": row(
            blocks=(3, 4, 23, 3), cardinality=32, width=4, params=44_177_704, macs=7_969_996_800,
            printed=PRINTED_101, results=errors("Table 4", top1=21.2, top5=5.6),
        ),
        "resnext101_32x8d": row(
            blocks=(3, 4, 23, 3), cardinality=32, width=8, params=88_791_336, macs=16_414_015_488,
            note="a later release, not in the paper",
        ),
        "resnext101_64x4d": row(
            blocks=(3, 4, 23, 3), cardinality=64, width=4, params=83_455_272, macs=15_460_270_080,
            printed=PRINTED_2X, results=errors("Table 4", top1=20.4, top5=5.3),
        ),
        # C; exact counts; Table 7: parameters, error in %
        "resnext29_8x64d_cifar10": cifar(cardinality=8, params=34_426_698, macs=5_387_266_048, printed=34.4e6, error=3.65),
        "resnext29_16x64d_cifar10": cifar(cardinality=16, params=68_155_210, macs=10_688_866_304, printed=68.1e6, error=3.58),
    },
)
