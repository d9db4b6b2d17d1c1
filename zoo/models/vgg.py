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
- The `_bn` rows (a batch norm after every convolution, which keeps its bias) are
  torchvision's, not the paper's.
"""

from collections import OrderedDict
from itertools import chain

from torch import nn

from zoo.errors import InputError
from zoo.layers import init
from zoo.layers.classifier import Classifier
from zoo.layers.norm import krizhevsky_lrn
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant

CHANNELS = (64, 128, 256, 512, 512)  # Table 1: the width doubles after each pool, up to 512


class VGG(Classifier):
    """VGG (Table 1). `kernels` is a column of the table: per stage the kernel sizes of
    its convolutions.

    Input (N, in_chans, H, W) with H, W >= 32. `lrn` puts one response normalisation
    after the first convolution (A-LRN).
    """

    def __init__(
        self,
        kernels: tuple[tuple[int, ...], ...],
        lrn: bool = False,
        batch_norm: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
        init: str = "glorot",
    ) -> None:
        super().__init__(num_classes, in_chans)
        if init not in ("glorot", "paper"):
            raise InputError(f"init={init!r}: VGG knows 'glorot' and 'paper'")
        self.init = init
        for number, (channels, sizes) in enumerate(zip(CHANNELS, kernels, strict=True), 1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for i, size in enumerate(sizes, 1):
                layers[f"conv{i}"] = nn.Conv2d(in_chans, channels, size, padding=size // 2)
                if batch_norm:
                    layers[f"norm{i}"] = nn.BatchNorm2d(channels)
                layers[f"relu{i}"] = nn.ReLU(inplace=True)
                if lrn and number == i == 1:
                    layers["lrn"] = krizhevsky_lrn()
                in_chans = channels
            layers["pool"] = nn.MaxPool2d(2, 2)
            self.add_stage(
                f"stage{number}", nn.Sequential(layers), channels, 2**number
            )  # (N, channels, H / 2^number, ...)
        self.num_features = 4096
        self.neck = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(7),  # (N, 512, 7, 7)
                flatten=nn.Flatten(),  # (N, 25088)
                fc6=nn.Linear(512 * 7 * 7, 4096),  # (N, 4096)
                relu6=nn.ReLU(inplace=True),
                drop6=nn.Dropout(drop_rate),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(inplace=True),
                drop7=nn.Dropout(drop_rate),
            )
        )
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if self.init == "paper":
                init.normal_(module.weight, std=0.1)  # variance 1e-2, section 3.1
            else:
                init.glorot_uniform_(module.weight)
            init.constant_(module.bias, 0)


A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))


def row(kernels, params, macs, millions=0, errors=(), note="", **fields) -> Variant:  # type: ignore[no-untyped-def]
    """A column of Table 1 with its parameters in millions (Table 2) and errors (Table
    3: S, Q, top-1, top-5).
    """
    depth = 3 + len(list(chain(*kernels)))
    printed = (
        Printed("params", millions * 1e6, "Table 2", unit=1e6),
        Printed("depth", depth, "Table 1"),
        Printed("output", (512, 7, 7), "Table 1", module="features.stage5"),
    )
    return Variant(
        fields={"kernels": kernels, **fields},
        claims=Claims(params, macs, printed if millions else ()),
        depth=depth,
        min_input=32,
        std=(1 / 255,) * 3,
        results=tuple(
            Result(
                f"top-{k} error %",
                value,
                "ILSVRC-2012 val",
                f"single network, dense, S={s}, Q={q}",
                "Table 3",
            )
            for s, q, *values in errors
            for k, value in zip((1, 5), values, strict=True)
        ),
        note=note,
    )


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
        "vgg11": row(A, 132_863_336, 7_609_090_048, 133, [(256, 256, 29.6, 10.4)], "A"),
        "vgg11_lrn": row(A, 132_863_336, 7_609_090_048, 133, [(256, 256, 29.7, 10.5)], "A-LRN", lrn=True),
        "vgg13": row(B, 133_047_848, 11_308_466_176, 133, [(256, 256, 28.7, 9.9)], "B"),
        "vgg16_1x1": row(
            C, 133_638_952, 11_770_888_192, 134, [(256, 256, 28.1, 9.4), (384, 384, 28.1, 9.3), (JITTER, 384, 27.3, 8.8)], "C"
        ),
        "vgg16": row(D, 138_357_544, 15_470_264_320, 138, [(256, 256, 27.0, 8.8), (384, 384, 26.8, 8.7), (JITTER, 384, 25.6, 8.1)], "D"),
        "vgg19": row(E, 143_667_240, 19_632_062_464, 144, [(256, 256, 27.3, 9.0), (384, 384, 26.9, 8.7), (JITTER, 384, 25.5, 8.0)], "E"),
        "vgg11_bn": row(A, 132_868_840, 7_609_090_048, note="A with batch norm", batch_norm=True),
        "vgg13_bn": row(B, 133_053_736, 11_308_466_176, note="B with batch norm", batch_norm=True),
        "vgg16_bn": row(D, 138_365_992, 15_470_264_320, note="D with batch norm", batch_norm=True),
        "vgg19_bn": row(E, 143_678_248, 19_632_062_464, note="E with batch norm", batch_norm=True),
    },
)
