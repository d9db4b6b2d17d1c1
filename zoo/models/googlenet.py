"""GoogLeNet: modules of convolutions of several sizes side by side, and the winner of
ILSVRC-2014 made of nine of them.

C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke,
A. Rabinovich. Going Deeper with Convolutions. CVPR 2015, arXiv:1409.4842. Modules:
section 4 and Figure 2; network: section 5 and Table 1; auxiliary classifiers: section
5; results: section 7.

googlenet is the network of the paper. googlenet_bn is torchvision's, made of TensorFlow
weights: a batch norm after every convolution instead of its bias and of the response
normalisation, 3x3 where the paper has 5x5, another fourth pool, and less dropout. With
`aux=True` the two auxiliary classifiers are there: 13,378,280 and 13,004,888
parameters.

Readings
- conv1 is an ordinary 7x7 convolution, as in all implementations. What Table 1 prints
  for it is the cost of a separable one.
- The response normalisation's constants are not printed: Caffe's (k=1, alpha=1e-4 times
  the mean, here 2e-5 times the sum).
- Pools without padding round up, which alone gives the printed 56, 28, 14 and 7.
- Initialisation is not printed either: that of Caffe's network, uniform with variance 1
  / fan-in, biases 0.2, those of classifiers 0. googlenet_bn has torchvision's, a
  truncated normal distribution of 0.01.

Departures
- Input: RGB 0..255 minus a mean per channel, not scaled; googlenet_bn takes RGB in [-1,
  1].
- The last map is averaged whole; at 224 it has the printed 7x7. That of an auxiliary
  classifier is averaged to 4x4 after its pool, which changes nothing at 224. Those of
  googlenet_bn have no other pool.
"""

import math
from collections import OrderedDict
from functools import partial

from torch import nn

from zoo.errors import InputError, check_choice
from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import AuxHead, Classifier, auxiliary_loss
from zoo.layers import init
from zoo.layers.inception import Branches, conv_bn_relu
from zoo.layers.neck import global_pool
from zoo.layers.norm import alexnet_lrn
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj; output; params in K
# (1024) and ops in M as printed
TABLE_1 = {
    "3a": ((64, 96, 128, 16, 32, 32), (256, 28, 28), 159, 128),
    "3b": ((128, 128, 192, 32, 96, 64), (480, 28, 28), 380, 304),
    "4a": ((192, 96, 208, 16, 48, 64), (512, 14, 14), 364, 73),
    "4b": ((160, 112, 224, 24, 64, 64), (512, 14, 14), 437, 88),
    "4c": ((128, 128, 256, 24, 64, 64), (512, 14, 14), 463, 100),
    "4d": ((112, 144, 288, 32, 64, 64), (528, 14, 14), 580, 119),
    "4e": ((256, 160, 320, 32, 128, 128), (832, 14, 14), 840, 170),
    "5a": ((256, 160, 320, 32, 128, 128), (832, 7, 7), 1072, 54),
    "5b": ((384, 192, 384, 48, 128, 128), (1024, 7, 7), 1388, 71),
}
AUX_BLOCKS = ("inception4a", "inception4d")  # whose outputs the auxiliary classifiers take
AUX_WEIGHT = 0.3  # of each auxiliary loss


def conv_relu(in_chans: int, out_chans: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Convolution and ReLU; at stride 1 the size stays."""
    conv = nn.Conv2d(in_chans, out_chans, kernel_size, stride, padding=kernel_size // 2)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))


class NaiveInception(Branches):
    """Figure 2(a): 1x1, 3x3, 5x5 and a max pool side by side: (N, C, H, W) to (N, n1x1
    + n3x3 + n5x5 + C, H, W).

    The example of Stanford's course CS231n, 28x28x256 with 128, 192 and 96 filters,
    costs 854,196,224 MACs.
    """

    def __init__(self, in_chans: int, n1x1: int, n3x3: int, n5x5: int) -> None:
        super().__init__(
            branch1x1=conv_relu(in_chans, n1x1, 1),
            branch3x3=conv_relu(in_chans, n3x3, 3),
            branch5x5=conv_relu(in_chans, n5x5, 5),
            branch_pool=nn.MaxPool2d(3, 1, padding=1),
        )


class Inception(Branches):
    """Figure 2(b), with 1x1 bottlenecks: (N, C, H, W) to (N, n1x1 + n3x3 + n5x5 +
    pool_proj, H, W). The arguments are Table 1's columns.

    The course's example with bottlenecks of 64 filters and pool_proj=64 costs
    271,351,808 MACs. Its slide prints 358M for the same layers: 86,704,128 more, which
    is its 3x3 convolution counted twice.
    """

    def __init__(
        self,
        in_chans: int,
        n1x1: int,
        n3x3_reduce: int,
        n3x3: int,
        n5x5_reduce: int,
        n5x5: int,
        pool_proj: int,
        *,
        kernel_5x5: int = 5,
        batch_norm: bool = False,
    ) -> None:
        conv = conv_bn_relu if batch_norm else conv_relu
        super().__init__(
            branch1x1=conv(in_chans, n1x1, 1),
            branch3x3=nn.Sequential(conv(in_chans, n3x3_reduce, 1), conv(n3x3_reduce, n3x3, 3)),
            branch5x5=nn.Sequential(
                conv(in_chans, n5x5_reduce, 1), conv(n5x5_reduce, n5x5, kernel_5x5)
            ),
            branch_pool=nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(in_chans, pool_proj, 1)),
        )


class GoogLeNet(Classifier):
    """GoogLeNet (Table 1). Input (N, in_chans, H, W) with H, W >= 31 (googlenet_bn:
    15). A stage begins with its pool.

    `batch_norm` after every convolution, in place of its bias and of the response
    normalisation; `kernel_5x5`: what the modules' 5x5 really is; `pool4`: size of the
    fourth pool; `aux`: the auxiliary classifiers, for which training takes 79 pixels or
    more (googlenet_bn: 15).
    """

    def __init__(
        self,
        batch_norm: bool = False,
        kernel_5x5: int = 5,
        pool4: int = 3,
        aux: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.4,
    ) -> None:
        super().__init__(num_classes, in_chans)
        if kernel_5x5 % 2 == 0:
            raise InputError(f"GoogLeNet: kernel_5x5={kernel_5x5}: expected an odd number")
        check_choice("GoogLeNet", "pool4", pool4, (2, 3))
        self.batch_norm = batch_norm
        conv = conv_bn_relu if batch_norm else conv_relu
        pool = partial(nn.MaxPool2d, stride=2, ceil_mode=True)
        norm = nn.Identity if batch_norm else partial(alexnet_lrn, k=1.0, alpha=1e-4 / 5)
        stage = nn.Sequential(OrderedDict(conv1=conv(in_chans, 64, 7, 2)))
        self.add_stage("stage1", stage, 64, 2)  # (N, 64, H/2, W/2)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["pool1"] = pool(3)  # (N, 64, H/4, W/4)
        layers["norm1"] = norm()
        layers["conv2_reduce"] = conv(64, 64, 1)
        layers["conv2"] = conv(64, 192, 3)  # (N, 192, H/4, W/4)
        layers["norm2"] = norm()
        self.add_stage("stage2", nn.Sequential(layers), 192, 4)
        channels, auxiliary = 192, nn.ModuleDict()
        for number in (3, 4, 5):
            layers = OrderedDict({f"pool{number - 1}": pool(pool4 if number == 5 else 3)})
            for row in (row for row in TABLE_1 if row.startswith(str(number))):
                filters, (out_chans, _, _), _, _ = TABLE_1[row]
                name = f"inception{row}"
                layers[name] = Inception(
                    channels, *filters, kernel_5x5=kernel_5x5, batch_norm=batch_norm
                )
                channels = out_chans
                if aux and name in AUX_BLOCKS:
                    auxiliary[name] = self.make_aux(channels)
            stage = nn.Sequential(layers)  # (N, 480 | 832 | 1024, H / 2^number, W / 2^number)
            self.add_stage(f"stage{number}", stage, channels, 2**number)
        if aux:
            self.set_aux(auxiliary)
        self.neck = global_pool(drop_rate=drop_rate)  # (N, 1024)
        self.head_hidden_size = channels
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def make_aux(self, channels: int) -> AuxHead:
        """An auxiliary classifier on a map (N, channels, H/16, W/16), 14x14 at 224
        (section 5).
        """
        conv = conv_bn_relu if self.batch_norm else conv_relu
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if not self.batch_norm:
            layers["pool"] = nn.AvgPool2d(5, 3)  # (N, channels, 4, 4)
        layers["resize"] = nn.AdaptiveAvgPool2d(4)
        layers["conv"] = conv(channels, 128, 1)  # (N, 128, 4, 4)
        layers["flatten"] = nn.Flatten()  # (N, 2048)
        layers["fc1"] = nn.Linear(2048, 1024)  # (N, 1024)
        layers["relu1"] = nn.ReLU(inplace=True)
        layers["drop"] = nn.Dropout(0.7)
        smallest = 1 if self.batch_norm else 5
        return AuxHead(nn.Sequential(layers), 1024, self.num_classes, smallest=smallest)

    def init_module(self, name: str, module: nn.Module) -> None:
        if self.batch_norm:
            init.init_tensorflow_(module, std=0.01)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            init.uniform_(module.weight, math.sqrt(3 / init.fans(module.weight)[0]))
            init.constant_(module.bias, 0 if name.endswith("head") else 0.2)


OUTPUTS = {  # Table 1
    "stage1": (64, 112, 112),
    "stage2.pool1": (64, 56, 56),
    "stage2": (192, 56, 56),
    "stage3.pool2": (192, 28, 28),
    "stage4.pool3": (480, 14, 14),
    "stage5.pool4": (832, 7, 7),
    **{f"stage{row[0]}.inception{row}": output for row, (_, output, _, _) in TABLE_1.items()},
}
COSTS = {  # Table 1: params in K, ops in M
    "stage1": (2.7, 34),
    "stage2": (112, 360),
    **{f"stage{row[0]}.inception{row}": (k, m) for row, (_, _, k, m) in TABLE_1.items()},
}
SEPARABLE = (
    "the cost of a separable convolution with 8 filters per channel: 2,712 weights, 34,019,328 MACs"
)
UNEXPLAINED = "unexplained: the filters printed in the same row do not give it"
WRONG_PARAMS = {"stage1": SEPARABLE} | {
    f"stage{row[0]}.inception{row}": UNEXPLAINED for row in TABLE_1 if row[0] in "45"
}
WRONG_MACS = {"stage1": SEPARABLE, "stage5.inception5a": UNEXPLAINED}


def outputs() -> tuple[PrintedFigure, ...]:
    """The column "output size" of Table 1."""
    pooled = PrintedFigure("output", (1024, 1, 1), "Table 1", module="neck.pool")
    return (*stage_outputs("Table 1", OUTPUTS), pooled)


def costs() -> tuple[PrintedFigure, ...]:
    """The columns "params" and "ops" of Table 1; exact parameters include biases."""
    found = []
    for path, (thousands, millions) in COSTS.items():
        found += [
            PrintedFigure(
                "params",
                thousands * 1024,
                "Table 1",
                resolution=102.4 if path == "stage1" else 1024,
                module=f"features.{path}",
                reason=WRONG_PARAMS.get(path, ""),
            ),
            PrintedFigure(
                "macs",
                millions * 1e6,
                "Table 1",
                resolution=1e6,
                module=f"features.{path}",
                reason=WRONG_MACS.get(path, ""),
            ),
        ]
    return (
        *found,
        PrintedFigure("params", 1000 * 1024, "Table 1", resolution=1024, module="head"),
        PrintedFigure("macs", 1e6, "Table 1", resolution=1e6, module="head"),
    )


def fewer_than_alexnet(model: nn.Module) -> float:
    return 60_965_224 / sum(parameter.numel() for parameter in model.parameters())


PRINTED = (
    PrintedFigure("depth", 22, "abstract"),
    PrintedFigure("macs", 1.5e9, "1", resolution=1e8),
    PrintedFigure(
        "AlexNet's parameters over its own",
        12,
        "1",
        compute=fewer_than_alexnet,
        reason="12 would be 5.1 million",
    ),
    *outputs(),
    *costs(),
)


def table_3(networks: str, crops: str, error: float) -> tuple[Result, ...]:
    """A top-5 error; ILSVRC-2014 has the images of 2012."""
    return error_rates(top5=error, protocol=f"{networks}, {crops}", source="Table 3")


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Going Deeper with Convolutions",
        authors="C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, A. Rabinovich",
        year=2015,
        venue="CVPR",
        arxiv="1409.4842",
        doi="10.1109/CVPR.2015.7298594",
    ),
    build=GoogLeNet,
    variants={
        "googlenet": Variant(
            model_args={},
            claims=Claims(params=6_998_552, macs=1_582_671_872, printed=PRINTED),
            depth=22,
            inputs=(ImageInput(min_size=31, mean=(123 / 255, 117 / 255, 104 / 255), std=(1 / 255,) * 3),),
            results=(
                *table_3("single network", "single crop", 10.07),
                *table_3("single network", "10 crops", 9.15),
                *table_3("single network", "144 crops", 7.89),
                *table_3("7 networks", "single crop", 8.09),
                *table_3("7 networks", "10 crops", 7.62),
                *table_3("7 networks", "144 crops", 6.67),
            ),
            note="the network of the paper: response normalisation, no batch norm",
        ),
        "googlenet_bn": Variant(
            model_args={"batch_norm": True, "kernel_5x5": 3, "pool4": 2, "drop_rate": 0.2},
            claims=Claims(params=6_624_904, macs=1_498_376_192, printed=outputs()),
            depth=22,
            inputs=(ImageInput(min_size=15, mean=(0.5,) * 3, std=(0.5,) * 3),),
            note="torchvision's network: batch norm, and 3x3 for 5x5",
        ),
    },
    loss=auxiliary_loss(AUX_WEIGHT),
)
