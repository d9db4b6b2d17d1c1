"""VGG: nets of 3x3 convolutions, 11 to 19 layers deep.

K. Simonyan, A. Zisserman. Very Deep Convolutional Networks for Large-Scale Image
Recognition. ICLR 2015, arXiv:1409.1556. Configurations: section 2.1 and Table 1;
initialisation: section 3.1; results: section 4.

vgg11 is configuration A, vgg11_lrn A-LRN, vgg13 B, vgg16_1x1 C, vgg16 D, vgg19 E.
Input: RGB 0..255 minus the mean, not scaled.

Departures
- Initialisation: section 3.1 prints N(0, variance 1e-2), and copies layers of a trained
  A into the deeper nets, as these do not start from random weights. The default is what
  the authors found enough later (section 3.1, last remark): Glorot. `init="paper"`
  draws the printed one.
- Maps of other inputs than 224 are averaged to 7x7 before the first fully connected
  layer, as torchvision does; at 224 that changes nothing. The paper evaluates larger
  images densely instead (section 3.2).
- At sizes that are no multiples of 32 pools round down, as torchvision's; the authors'
  released Caffe nets round up.
- The `_bn` rows (a batch norm after every convolution, which keeps its bias) are
  torchvision's, not the paper's.
"""

from collections import OrderedDict

from torch import nn

from zoo.errors import check_choice
from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.layers.neck import fully_connected
from zoo.layers.norm import alexnet_lrn
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

CHANNELS = (64, 128, 256, 512, 512)  # Table 1: the width doubles after each pool, up to 512
Kernels = tuple[tuple[int, ...], ...]


class VGG(Classifier):
    """VGG (Table 1). `kernels` is a column of the table: per stage the kernel sizes of
    its convolutions.

    Input (N, in_chans, H, W) with H, W >= 32. `lrn` puts one response normalisation
    after the first convolution (A-LRN). `hidden`: the width of the hidden fully
    connected layers. Raises InputError for an unknown `init`.
    """

    def __init__(
        self,
        kernels: Kernels,
        lrn: bool = False,
        batch_norm: bool = False,
        hidden: int = 4096,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
        init: str = "glorot",
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("VGG", "init", init, ("glorot", "paper"))
        self.init = init
        for number, (channels, sizes) in enumerate(zip(CHANNELS, kernels, strict=True), 1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for i, size in enumerate(sizes, 1):
                layers[f"conv{i}"] = nn.Conv2d(in_chans, channels, size, padding=size // 2)
                if batch_norm:
                    layers[f"norm{i}"] = nn.BatchNorm2d(channels)
                layers[f"relu{i}"] = nn.ReLU(inplace=True)
                if lrn and number == i == 1:
                    layers["lrn"] = alexnet_lrn()
                in_chans = channels
            layers["pool"] = nn.MaxPool2d(2, 2)
            stage = nn.Sequential(layers)  # (N, channels, H / 2^number, W / 2^number)
            self.add_stage(f"stage{number}", stage, channels, 2**number)
        self.neck = fully_connected(in_chans, side=7, hidden=hidden, drop_rate=drop_rate)
        self.head_hidden_size = hidden
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if self.init == "paper":
                init.normal_(module.weight, std=0.1)  # variance 1e-2, section 3.1
            else:
                init.glorot_uniform_(module.weight)
            init.constant_(module.bias, 0)


def row(
    *,
    kernels: Kernels,
    params: int,
    macs: int,
    millions: float = 0,
    errors: tuple[tuple[int | str, int, float, float], ...] = (),
    lrn: bool = False,
    batch_norm: bool = False,
    note: str,
) -> Variant:
    """A column of Table 1. `millions` of parameters (Table 2), and `errors`: S, Q,
    top-1 and top-5 (Table 3); without `millions` the network is not the paper's.
    """
    depth = 3 + sum(map(len, kernels))
    printed = (
        PrintedFigure("params", millions * 1e6, "Table 2", resolution=1e6),
        PrintedFigure("depth", depth, "Table 1"),
        *stage_outputs("Table 1", {"stage5": (512, 7, 7)}),
    )
    results: list[Result] = []
    for s, q, top1, top5 in errors:
        protocol = f"single network, dense, S={s}, Q={q}"
        results += error_rates(top1=top1, top5=top5, protocol=protocol, source="Table 3")
    return Variant(
        model_args={"kernels": kernels, "lrn": lrn, "batch_norm": batch_norm},
        claims=Claims(params, macs, printed if millions else ()),
        depth=depth,
        inputs=(ImageInput(min_size=32, std=(1 / 255,) * 3),),
        results=tuple(results),
        tiny={"kernels": tuple(sizes[-1:] for sizes in kernels), "hidden": 64},
        note=note,
    )


A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
JITTER = "[256;512]"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
        authors="K. Simonyan, A. Zisserman",
        year=2015,
        venue="ICLR",
        arxiv="1409.1556",
    ),
    build=VGG,
    variants={
        # Table 1: configuration; exact counts; Table 2: millions of parameters;
        # Table 3: S, Q, top-1 and top-5 error in %
        "vgg11": row(
            note="A", kernels=A, params=132_863_336, macs=7_609_090_048, millions=133,
            errors=((256, 256, 29.6, 10.4),),
        ),
        "vgg11_lrn": row(
            note="A-LRN", kernels=A, lrn=True, params=132_863_336, macs=7_609_090_048, millions=133,
            errors=((256, 256, 29.7, 10.5),),
        ),
        "vgg13": row(
            note="B", kernels=B, params=133_047_848, macs=11_308_466_176, millions=133,
            errors=((256, 256, 28.7, 9.9),),
        ),
        "vgg16_1x1": row(
            note="C", kernels=C, params=133_638_952, macs=11_770_888_192, millions=134,
            errors=((256, 256, 28.1, 9.4), (384, 384, 28.1, 9.3), (JITTER, 384, 27.3, 8.8)),
        ),
        "vgg16": row(
            note="D", kernels=D, params=138_357_544, macs=15_470_264_320, millions=138,
            errors=((256, 256, 27.0, 8.8), (384, 384, 26.8, 8.7), (JITTER, 384, 25.6, 8.1)),
        ),
        "vgg19": row(
            note="E", kernels=E, params=143_667_240, macs=19_632_062_464, millions=144,
            errors=((256, 256, 27.3, 9.0), (384, 384, 26.9, 8.7), (JITTER, 384, 25.5, 8.0)),
        ),
        # torchvision's: configuration; exact counts
        "vgg11_bn": row(note="A with batch norm", kernels=A, batch_norm=True, params=132_868_840, macs=7_609_090_048),
        "vgg13_bn": row(note="B with batch norm", kernels=B, batch_norm=True, params=133_053_736, macs=11_308_466_176),
        "vgg16_bn": row(note="D with batch norm", kernels=D, batch_norm=True, params=138_365_992, macs=15_470_264_320),
        "vgg19_bn": row(note="E with batch norm", kernels=E, batch_norm=True, params=143_678_248, macs=19_632_062_464),
    },
)
