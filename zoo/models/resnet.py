"""ResNet: nets of residual blocks, 18 to 152 layers deep on ImageNet and 20 to 1202 on
CIFAR-10, and their plain counterparts.

K. He, X. Zhang, S. Ren, J. Sun. Deep Residual Learning for Image Recognition. CVPR
2016, arXiv:1512.03385. Blocks and shortcut options A, B, C: section 3.3; ImageNet nets:
Table 1; CIFAR-10 nets: section 4.2; results: Tables 3, 4, 6.

Readings
- The bottleneck's stride is in its first 1x1, as in the released nets; the FLOPs of
  Table 1 agree with that alone. The `_v1_5` rows have it in the 3x3, as fb.resnet.torch
  and torchvision do: equal shapes, another function.
- Table 1 does not say which shortcut its 18- and 34-layer nets have: here B, as in the
  deeper ones.
- Option A appends its zero maps after the identity's, as fb.resnet.torch does;
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
from zoo.layers.classifier import Classifier
from zoo.layers.residual import (
    BasicBlock,
    Bottleneck,
    add_stages,
    add_stem,
    init_he_,
    make_shortcut,
    pooling,
)
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant


class ResNet(Classifier):
    """ResNet. `blocks` is a column of Table 1: the blocks of each stage. Input (N,
    in_chans, H, W) of any size.

    `bottleneck`: which block. `shortcut`: option "A", "B" or "C" of section 3.3, or ""
    for the plain net. `shortcut_pad`: where option A puts its zero maps, "after" or
    "both". `stride_in`: a bottleneck's strided convolution, "1x1" or "3x3". `stem`:
    "imagenet" (Table 1) or "cifar" (section 4.2: 16, 32, 64 maps, no pooling).
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
            downsample = (
                make_shortcut(shortcut, in_chans, out_chans, stride, shortcut_pad)
                if shortcut
                else None
            )
            if bottleneck:
                return Bottleneck(
                    in_chans, out_chans // 4, out_chans, stride, downsample, stride_in
                )
            return BasicBlock(in_chans, out_chans, stride, downsample)

        width = 64 if stem == "imagenet" else 16
        add_stem(self, stem, width)  # (N, width, H / 2, W / 2), CIFAR: (N, width, H, W)
        self.num_features = add_stages(
            self, stem, blocks, 4 * width if bottleneck else width, block
        )
        self.neck = pooling()  # (N, num_features)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module)


def errors(where: str, protocol: str, *values: float) -> tuple[Result, ...]:
    """Top-1 and top-5 error of a single network on ImageNet."""
    return tuple(
        Result(f"top-{k} error %", value, "ILSVRC-2012 val", f"single network, {protocol}", where)
        for k, value in zip((1, 5), values, strict=True)
    )


def row(blocks, params, macs, flops=0.0, table3=(), table4=(), note="", **fields) -> Variant:  # type: ignore[no-untyped-def]
    """A column of Table 1 with its FLOPs, which are multiply-adds, and errors (10
    crops: Table 3; many scales: Table 4).
    """
    bottleneck = fields.get("bottleneck", False)
    depth = 2 + sum(blocks) * (3 if bottleneck else 2)
    stages = [("conv1", 64, 112)] + [
        (f"conv{i + 2}_x", (256 if bottleneck else 64) << i, 56 >> i) for i in range(4)
    ]
    printed = [
        Printed("output", (maps, size, size), "Table 1", module=f"features.{stage}")
        for stage, maps, size in stages
    ]
    printed += [Printed("depth", depth, "Table 1")]
    if flops:
        printed += [
            Printed(
                "macs", flops, "Table 1" if fields.get("shortcut", "B") else "section 3.3", unit=1e8
            )
        ]
    return Variant(
        fields={"blocks": blocks, **fields},
        claims=Claims(params, macs, tuple(printed)),
        depth=depth,
        results=(errors("Table 3", "10 crops", *table3) if table3 else ())
        + (errors("Table 4", "many scales", *table4) if table4 else ()),
        note=note,
    )


def cifar(n, params, macs, printed=0.0, unit=1e4, errors=(), **fields) -> Variant:  # type: ignore[no-untyped-def]
    """A net of 6n + 2 layers (section 4.2) with its parameters and errors (Table 6) by
    protocol.
    """
    figures = (
        Printed("depth", 6 * n + 2, "section 4.2"),
        *(
            Printed(
                "output",
                (16 << i, 32 >> i, 32 >> i),
                "section 4.2",
                module=f"features.stage{i + 1}",
            )
            for i in range(3)
        ),
    )
    return Variant(
        fields={"blocks": (n, n, n), "shortcut": "A", "stem": "cifar", "num_classes": 10, **fields},
        claims=Claims(
            params,
            macs,
            (*figures, Printed("params", printed, "Table 6", unit=unit)) if printed else figures,
        ),
        depth=6 * n + 2,
        input_size=(3, 32, 32),
        results=tuple(
            Result("top-1 error %", error, "CIFAR-10 test", protocol, where)
            for protocol, error, where in errors
        ),
        note="plain: no shortcuts" if fields else "shortcut option A",
    )


def one(error: float) -> tuple[tuple[str, float, str]]:
    return (("single network, shifts and mirroring", error, "Table 6"),)


RUNS = (("best of 5 runs", 6.43, "Table 6"), ("mean of 5 runs", 6.61, "Table 6, ± 0.16"))
PLAIN = {"shortcut": ""}
PAPER = {"bottleneck": True, "note": "stride in the first 1x1"}
V1_5 = {
    "bottleneck": True,
    "stride_in": "3x3",
    "note": "stride in the 3x3, as fb.resnet.torch and torchvision have it",
}
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
        "resnet18": row((2, 2, 2, 2), 11_689_512, 1_814_073_344, 1.8e9),
        "resnet34": row((3, 4, 6, 3), 21_797_672, 3_663_761_408, 3.6e9, (24.52, 7.46), (21.84, 5.71), "shortcut option B"),
        "resnet50": row((3, 4, 6, 3), 25_557_032, 3_857_973_248, 3.8e9, (22.85, 6.71), (20.74, 5.25), **PAPER),
        "resnet101": row((3, 4, 23, 3), 44_549_160, 7_570_194_432, 7.6e9, (21.75, 6.05), (19.87, 4.60), **PAPER),
        "resnet152": row((3, 8, 36, 3), 60_192_808, 11_282_415_616, 11.3e9, (21.43, 5.71), (19.38, 4.49), **PAPER),
        "resnet50_v1_5": row((3, 4, 6, 3), 25_557_032, 4_089_184_256, **V1_5),
        "resnet101_v1_5": row((3, 4, 23, 3), 44_549_160, 7_801_405_440, **V1_5),
        "resnet152_v1_5": row((3, 8, 36, 3), 60_192_808, 11_513_626_624, **V1_5),
        "plain18": row((2, 2, 2, 2), 11_515_688, 1_794_805_760, note="resnet18 without shortcuts", **PLAIN),
        "plain34": row((3, 4, 6, 3), 21_623_848, 3_644_493_824, 3.6e9, (28.54, 10.02), note="resnet34 without shortcuts", **PLAIN),
        "resnet20_cifar10": cifar(3, 269_722, 40_551_040, 0.27e6, errors=one(8.75)),
        "resnet32_cifar10": cifar(5, 464_154, 68_862_592, 0.46e6, errors=one(7.51)),
        "resnet44_cifar10": cifar(7, 658_586, 97_174_144, 0.66e6, errors=one(7.17)),
        "resnet56_cifar10": cifar(9, 853_018, 125_485_696, 0.85e6, errors=one(6.97)),
        "resnet110_cifar10": cifar(18, 1_727_962, 252_887_680, 1.7e6, 1e5, RUNS),
        "resnet1202_cifar10": cifar(200, 19_421_274, 2_829_238_912, 19.4e6, 1e5, one(7.93)),
        "plain20_cifar10": cifar(3, 269_722, 40_551_040, **PLAIN),
        "plain32_cifar10": cifar(5, 464_154, 68_862_592, **PLAIN),
        "plain44_cifar10": cifar(7, 658_586, 97_174_144, **PLAIN),
        "plain56_cifar10": cifar(9, 853_018, 125_485_696, **PLAIN),
    },
)
