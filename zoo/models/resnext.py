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

from zoo.layers.classifier import Classifier
from zoo.layers.residual import Bottleneck, add_stages, add_stem, init_he_, make_shortcut, pooling
from zoo.spec import CIFAR10_MEAN, CIFAR10_STD, Claims, Family, Paper, Printed, Result, Variant


class ResNeXt(Classifier):
    """ResNeXt (Table 1). `blocks`: per stage; `cardinality` C and `width` D: branches
    and their width in the first stage.

    `stem`: "imagenet", or "cifar" (section 5.3: 256, 512, 1024 maps, no pooling). Input
    (N, in_chans, H, W) of any size.
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
            inner = cardinality * width * out_chans // 256  # doubles with the maps
            return Bottleneck(in_chans, inner, out_chans, stride, downsample, groups=cardinality)

        add_stem(self, stem, 64)  # (N, 64, H / 2, W / 2), CIFAR: (N, 64, H, W)
        self.num_features = add_stages(self, stem, blocks, 256, block)
        self.neck = pooling()  # (N, num_features)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module)


def row(
    blocks, cardinality, width, params, macs, printed=(), errors=(), where="", note=""
) -> Variant:  # type: ignore[no-untyped-def]
    """An ImageNet net with its errors (top-1, top-5 where printed)."""
    outputs = (
        Printed("output", (256 << i, 56 >> i, 56 >> i), "Table 1", module=f"features.conv{i + 2}_x")
        for i in range(4)
    )
    depth = 3 * sum(blocks) + 2
    return Variant(
        fields={"blocks": blocks, "cardinality": cardinality, "width": width},
        claims=Claims(params, macs, (*printed, *outputs)),
        depth=depth,
        results=tuple(
            Result(
                f"top-{k} error %", value, "ILSVRC-2012 val", "single network, single crop", where
            )
            for k, value in zip((1, 5), errors, strict=False)
        ),
        note=note,
    )


def cifar(cardinality, params, macs, printed, error) -> Variant:  # type: ignore[no-untyped-def]
    """A net of 29 layers with its parameters and error (Table 7)."""
    outputs = (
        Printed(
            "output", (256 << i, 32 >> i, 32 >> i), "section 5.3", module=f"features.stage{i + 1}"
        )
        for i in range(3)
    )
    return Variant(
        fields={
            "blocks": (3, 3, 3),
            "cardinality": cardinality,
            "width": 64,
            "stem": "cifar",
            "num_classes": 10,
        },
        claims=Claims(
            params,
            macs,
            (
                Printed("depth", 29, "section 5.3"),
                Printed("params", printed, "Table 7", unit=1e5),
                *outputs,
            ),
        ),
        depth=29,
        input_size=(3, 32, 32),
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        results=(Result("top-1 error %", error, "CIFAR-10 test", "mean of 10 runs", "Table 7"),),
    )


def block_weights(model: ResNeXt) -> int:
    """The weights of a block with 256 maps, without batch norms and shortcut."""
    block = model.features.get_submodule("conv2_x.1")
    return sum(conv.weight.numel() for conv in block.modules() if isinstance(conv, nn.Conv2d))


LAYERS_101 = (3, 4, 23, 3)
DEPTH_101 = Printed("depth", 101, "Table 3")
PRINTED_50 = (
    Printed("depth", 50, "Table 1"),
    Printed("params", 25.0e6, "Table 1", unit=1e5),
    Printed("macs", 4.2e9, "Table 1", unit=1e8),
    Printed("weights of a block", 70e3, "section 3.4", unit=1e3, by=block_weights),
)
PRINTED_101 = (
    DEPTH_101,
    Printed(
        "macs",
        7.8e9,
        "authors' repository",
        unit=1e8,
        reason="the figure of ResNet-101, which the setting is made to match",
    ),
)
PRINTED_2X = (
    DEPTH_101,
    Printed("macs", 15e9, "Table 4", unit=1e9),
    Printed(
        "macs",
        15.6e9,
        "authors' repository",
        unit=1e8,
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
        "resnext50_32x4d": row((3, 4, 6, 3), 32, 4, 25_028_904, 4_230_479_872, PRINTED_50, (22.2,), "Table 3"),
        "resnext101_32x4d": row(LAYERS_101, 32, 4, 44_177_704, 7_969_996_800, PRINTED_101, (21.2, 5.6), "Table 4"),
        "resnext101_32x8d": row(LAYERS_101, 32, 8, 88_791_336, 16_414_015_488, note="a later release, not in the paper"),
        "resnext101_64x4d": row(LAYERS_101, 64, 4, 83_455_272, 15_460_270_080, PRINTED_2X, (20.4, 5.3), "Table 4"),
        "resnext29_8x64d_cifar10": cifar(8, 34_426_698, 5_387_266_048, 34.4e6, 3.65),
        "resnext29_16x64d_cifar10": cifar(16, 68_155_210, 10_688_866_304, 68.1e6, 3.58),
    },
)
