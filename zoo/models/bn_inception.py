"""BN-Inception: the Inception network in which batch normalisation was introduced. ONNX
and TF-slim call it inception_v2.

S. Ioffe, C. Szegedy. Batch Normalization: Accelerating Deep Network Training by
Reducing Internal Covariate Shift. ICML 2015, arXiv:1502.03167. Changes against
GoogLeNet: section 4.2 and appendix; layers: Fig. 5; results: section 4.2.3 and Fig. 4.

Readings
- Fig. 5 contradicts itself in 4c and 4d: with its pool projections of 128 maps they
  give 608 maps, not the 576 printed beside them. Here the projections have 96 and the
  outputs 576, as in TF-slim and the released Caffe networks.
- Modules 3c and 4e halve the map: their convolutions and their pool have one cell of
  padding on each side. Fig. 5 prints the sizes before.
- Means leave out the padding, as in the authors' TensorFlow networks. Other pools round
  up.
- Initialisation is not printed: here that of TensorFlow's Inception networks, a
  truncated normal distribution of 0.1. So is the input, RGB in [-1, 1].

Departures
- conv1 is an ordinary 7x7 convolution, as in all released networks; the paper's is
  separable, with 8 maps per channel.
- The last map is averaged whole; at 224 it has the printed 7x7.
"""

from collections import OrderedDict

from torch import nn

from zoo.layers import init
from zoo.layers.branches import Branches, chain, conv_bn_relu
from zoo.layers.classifier import Classifier
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant

STAGES = {  # Fig. 5: #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool, projection; output as printed
    "stage3": {
        "3a": ((64, 64, 64, 64, 96, "avg", 32), (256, 28, 28)),
        "3b": ((64, 64, 96, 64, 96, "avg", 64), (320, 28, 28)),
    },
    "stage4": {
        "3c": ((0, 128, 160, 64, 96, "max", 0), (576, 28, 28)),
        "4a": ((224, 64, 96, 96, 128, "avg", 128), (576, 14, 14)),
        "4b": ((192, 96, 128, 96, 128, "avg", 128), (576, 14, 14)),
        "4c": ((160, 128, 160, 128, 160, "avg", 96), (576, 14, 14)),  # printed projection: 128
        "4d": ((96, 128, 192, 160, 192, "avg", 96), (576, 14, 14)),  # printed projection: 128
    },
    "stage5": {
        "4e": ((0, 128, 192, 192, 256, "max", 0), (1024, 14, 14)),
        "5a": ((352, 192, 320, 160, 224, "avg", 128), (1024, 7, 7)),
        "5b": ((352, 192, 320, 192, 224, "max", 128), (1024, 7, 7)),
    },
}


class Inception(Branches):
    """1x1, 3x3, two 3x3 and a pool side by side; the arguments are the columns of Fig.
    5.

    (N, C, H, W) to (N, n1x1 + n3x3 + double + projection, H, W); with n1x1=0 to (N,
    n3x3 + double + C, H/2, W/2).
    """

    def __init__(
        self,
        in_chans: int,
        n1x1: int,
        n3x3_reduce: int,
        n3x3: int,
        double_reduce: int,
        double: int,
        pool: str,
        projection: int,
    ) -> None:
        stride = 1 if n1x1 else 2
        branches: dict[str, nn.Module] = (
            {"branch1x1": conv_bn_relu(in_chans, n1x1, 1)} if n1x1 else {}
        )
        branches["branch3x3"] = chain(in_chans, (n3x3_reduce, 1), (n3x3, 3, stride))
        branches["branch_double"] = chain(
            in_chans, (double_reduce, 1), (double, 3), (double, 3, stride)
        )
        mean = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        pooling = mean if pool == "avg" else nn.MaxPool2d(3, stride, padding=1)
        branches["branch_pool"] = (
            chain(in_chans, pooling, (projection, 1)) if projection else pooling
        )
        super().__init__(**branches)
        self.out_chans = n1x1 + n3x3 + double + (projection or in_chans)


class BNInception(Classifier):
    """BN-Inception (Fig. 5). Input (N, in_chans, H, W) with H, W >= 7. A stage begins
    with what halves the map.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__(num_classes, in_chans)
        self.add_stage(
            "stage1", nn.Sequential(OrderedDict(conv1=conv_bn_relu(in_chans, 64, 7, 2))), 64, 2
        )  # (N, 64, H/2, W/2)
        stage: OrderedDict[str, nn.Module] = OrderedDict(pool1=nn.MaxPool2d(3, 2, ceil_mode=True))
        stage.update(conv2_reduce=conv_bn_relu(64, 64, 1), conv2=conv_bn_relu(64, 192, 3))
        self.add_stage("stage2", nn.Sequential(stage), 192, 4)  # (N, 192, H/4, W/4)
        channels = 192
        stage = OrderedDict(pool2=nn.MaxPool2d(3, 2, ceil_mode=True))
        for name, rows in STAGES.items():
            for row, (columns, _) in rows.items():
                stage[f"inception{row}"] = module = Inception(channels, *columns)
                channels = module.out_chans
            self.add_stage(
                name, nn.Sequential(stage), channels, 2 ** int(name[-1])
            )  # (N, 320 | 576 | 1024, H/8 | H/16 | H/32, ...)
            stage = OrderedDict()
        self.num_features = channels
        self.neck = nn.Sequential(
            OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        )  # (N, 1024)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.truncated_normal_(module.weight, std=0.1)
            init.constant_(module.bias, 0)


def projection(row: str) -> Printed:
    """The projection that Fig. 5 prints for 4c and 4d."""
    return Printed(
        f"pool projection of {row}",
        128,
        "Fig. 5",
        by=lambda model: (
            model.get_submodule(f"features.stage4.inception{row}.branch_pool.1.conv").out_channels
        ),
        reason="with 128 the module gives 608 maps and not the printed 576",
    )


def added_layers(model: BNInception) -> int:
    """Weight layers on the longest path beyond GoogLeNet's 22: three per module, beside
    conv1, the two of conv2 and the head.
    """
    return 3 * sum(isinstance(module, Inception) for module in model.modules()) + 4 - 22


def figure_5() -> tuple[Printed, ...]:
    rows = {"stage1": (64, 112, 112), "stage2": (192, 56, 56)}
    rows |= {
        f"{stage}.inception{row}": output
        for stage, modules in STAGES.items()
        for row, (_, output) in modules.items()
    }
    halved = "the size before the stride; behind it there are half as many cells each way"
    return tuple(
        Printed(
            "output",
            output,
            "Fig. 5",
            module=f"features.{row}",
            reason=halved if row.endswith(("3c", "4e")) else "",
        )
        for row, output in rows.items()
    )


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
        authors="S. Ioffe, C. Szegedy",
        year=2015,
        venue="ICML",
        arxiv="1502.03167",
    ),
    build=BNInception,
    variants={
        "bn_inception": Variant(
            fields={},
            claims=Claims(
                params=11_194_984,
                macs=2_018_851_840,
                printed=(
                    Printed("params", 13.6e6, "4.2", unit=1e5, reason="unexplained: no reading of Fig. 5 gives more than 11.3 million"),
                    Printed("macs", 2.0e9, "arXiv:1512.00567, Table 3", unit=1e8),
                    Printed(
                        "weight layers more than GoogLeNet",
                        9,
                        "appendix",
                        by=added_layers,
                        reason="one for each of GoogLeNet's nine modules; the third module at 28x28 adds three",
                    ),
                    projection("4c"),
                    projection("4d"),
                    *figure_5(),
                ),
            ),
            depth=34,
            min_input=7,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            results=tuple(
                Result(f"top-{k} error %", error, f"ILSVRC-2012 {part}", f"{networks}, 144 crops", "Fig. 4")
                for networks, part, k, error in (
                    ("single network", "val", 1, 21.99),
                    ("single network", "val", 5, 5.82),
                    ("6 networks", "val", 1, 20.1),
                    ("6 networks", "val", 5, 4.9),
                    ("6 networks", "test", 5, 4.82),
                )
            ),
            note="pool projections of 96 in 4c and 4d, where the paper contradicts itself",
        ),
    },
)
