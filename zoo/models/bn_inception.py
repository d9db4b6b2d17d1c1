"""BN-Inception: the Inception network in which batch normalisation was introduced. ONNX
and TF-slim call it inception_v2.

S. Ioffe, C. Szegedy. Batch Normalization: Accelerating Deep Network Training by
Reducing Internal Covariate Shift. ICML 2015, arXiv:1502.03167. Changes against
GoogLeNet: section 4.2 and appendix; layers: Fig. 5; results: section 4.2.3 and Fig. 4.

Readings
- Fig. 5 contradicts itself in 4c and 4d: with its pool projections of 128 channels they
  give 608, not the 576 printed beside them. Here the projections have 96 and the
  outputs 576, as in TF-slim and the released Caffe networks.
- Modules 3c and 4e halve the map: their convolutions have one cell of padding on each
  side. Their pools look over the edge only behind, as in all released networks (Caffe
  rounds up, TensorFlow pads there); at odd sizes on both sides, as TensorFlow's do.
  Fig. 5 prints the sizes before.
- Means leave out the padding, as in the authors' TensorFlow networks. The stem's pools
  round up.
- Initialisation is not printed: here that of TensorFlow's Inception networks, a
  truncated normal distribution of 0.1. So is the input, RGB in [-1, 1].

Departures
- conv1 is an ordinary 7x7 convolution, as in all released networks; the paper's is
  separable, with 8 filters per channel.
- The last map is averaged whole; at 224 it has the printed 7x7.
"""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.figures import error_rates
from zoo.interfaces.classifier import Classifier
from zoo.layers.inception import Branches, chain, conv_bn_relu
from zoo.layers.init import init_tensorflow_
from zoo.layers.neck import global_pool
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

# Fig. 5: #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool, projection;
# output as printed
STAGES = {
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


class HalvingPool(nn.MaxPool2d):
    """3x3 maxima in steps of 2: (N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2)). A
    cell of padding lies behind, and at odd sizes before, too.
    """

    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return F.max_pool2d(x, 3, 2, padding=(height % 2, width % 2), ceil_mode=True)


class Inception(Branches):
    """1x1, 3x3, two 3x3 and a pool side by side; its arguments are Fig. 5's columns.

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
        branches: dict[str, nn.Module] = {}
        if n1x1:
            branches["branch1x1"] = conv_bn_relu(in_chans, n1x1, 1)
        branches["branch3x3"] = chain(in_chans, (n3x3_reduce, 1), (n3x3, 3, stride))
        doubled = chain(in_chans, (double_reduce, 1), (double, 3), (double, 3, stride))
        branches["branch_double"] = doubled
        pooling: nn.Module = nn.MaxPool2d(3, 1, padding=1) if n1x1 else HalvingPool()
        if pool == "avg":
            pooling = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        if projection:
            pooling = chain(in_chans, pooling, (projection, 1))
        branches["branch_pool"] = pooling
        super().__init__(**branches)
        self.out_chans = n1x1 + n3x3 + double + (projection or in_chans)


class BNInception(Classifier):
    """BN-Inception (Fig. 5). Input (N, in_chans, H, W) with H, W >= 7. A stage begins
    with what halves the map.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__(num_classes, in_chans)
        stage = nn.Sequential(OrderedDict(conv1=conv_bn_relu(in_chans, 64, 7, 2)))
        self.add_stage("stage1", stage, 64, 2)  # (N, 64, H/2, W/2)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["pool1"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        layers["conv2_reduce"] = conv_bn_relu(64, 64, 1)
        layers["conv2"] = conv_bn_relu(64, 192, 3)
        self.add_stage("stage2", nn.Sequential(layers), 192, 4)  # (N, 192, H/4, W/4)
        channels = 192
        layers = OrderedDict(pool2=nn.MaxPool2d(3, 2, ceil_mode=True))
        for number, (name, rows) in enumerate(STAGES.items(), 3):
            for row, (columns, _) in rows.items():
                layers[f"inception{row}"] = module = Inception(channels, *columns)
                channels = module.out_chans
            stage = nn.Sequential(layers)  # (N, 320 | 576 | 1024, H / 2^number, W / 2^number)
            self.add_stage(name, stage, channels, 2**number)
            layers = OrderedDict()
        self.neck = global_pool()  # (N, 1024)
        self.head_hidden_size = channels
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_tensorflow_(module)


def projection(row: str) -> PrintedFigure:
    """The projection that Fig. 5 prints for 4c and 4d."""
    return PrintedFigure(
        f"pool projection of {row}",
        128,
        "Fig. 5",
        compute=lambda model: (
            model.get_submodule(f"features.stage4.inception{row}.branch_pool.1.conv").out_channels
        ),
        reason="with 128 the module gives 608 channels and not the printed 576",
    )


def added_layers(model: BNInception) -> int:
    """Weight layers on the longest path beyond GoogLeNet's 22: three per module, beside
    conv1, the two of conv2 and the head.
    """
    return 3 * sum(isinstance(module, Inception) for module in model.modules()) + 4 - 22


def figure_5() -> tuple[PrintedFigure, ...]:
    """The output sizes of Fig. 5."""
    rows = {"stage1": (64, 112, 112), "stage2": (192, 56, 56)}
    for stage, modules in STAGES.items():
        rows |= {f"{stage}.inception{row}": output for row, (_, output) in modules.items()}
    halved = "the size before the stride; behind it there are half as many cells each way"
    figures = []
    for row, output in rows.items():
        reason = halved if row.endswith(("3c", "4e")) else ""
        module = f"features.{row}"
        figures.append(PrintedFigure("output", output, "Fig. 5", module=module, reason=reason))
    return tuple(figures)


def paper_figures() -> tuple[PrintedFigure, ...]:
    """What the paper prints."""
    return (
        PrintedFigure(
            "params",
            13.6e6,
            "4.2",
            resolution=1e5,
            reason="unexplained: no reading of Fig. 5 gives more than 11.3 million",
        ),
        PrintedFigure("macs", 2.0e9, "arXiv:1512.00567, Table 3", resolution=1e8),
        PrintedFigure(
            "weight layers more than GoogLeNet",
            9,
            "appendix",
            compute=added_layers,
            reason="one for each of GoogLeNet's nine modules; the third module at 28x28 adds three",
        ),
        projection("4c"),
        projection("4d"),
        *figure_5(),
    )


def figure_4(
    networks: str, part: str, *, top1: float | None = None, top5: float
) -> tuple[Result, ...]:
    """Errors with 144 crops."""
    return error_rates(
        top1=top1,
        top5=top5,
        data=f"ILSVRC-2012 {part}",
        protocol=f"{networks}, 144 crops",
        source="Fig. 4",
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
            model_args={},
            claims=Claims(params=11_194_984, macs=2_018_851_840, printed=paper_figures()),
            depth=34,
            inputs=(ImageInput(min_size=7, mean=(0.5,) * 3, std=(0.5,) * 3),),
            results=(
                *figure_4("single network", "val", top1=21.99, top5=5.82),
                *figure_4("6 networks", "val", top1=20.1, top5=4.9),
                *figure_4("6 networks", "test", top5=4.82),
            ),
            note="pool projections of 96 in 4c and 4d, where the paper contradicts itself",
        ),
    },
)
