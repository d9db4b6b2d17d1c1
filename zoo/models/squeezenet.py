"""SqueezeNet: AlexNet's accuracy from 1.2 million parameters, by squeezing the input of
every 3x3 convolution.

F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer. SqueezeNet:
AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size. arXiv:1602.07360
(2016). Fire module: section 3.2; architecture: Table 1; bypasses: section 6.
squeezenet1_1 is the authors' later release, not in the paper.

Readings
- Table 1 starts at 224 but goes on with maps of 111, which a 7x7 convolution with
  stride 2 and no padding gives from 227: that is the released network's input, and the
  default here. Pools round up, as Caffe's do.
- The last convolution is the head: ReLU, then the mean over its map gives the logits.
  It has no padding, as in Table 1; the released version 1.0 has one cell
  (`head_padding=1`), so that 56 of its 225 averaged values are the bias alone.
- Bypasses are added to the rectified output of a fire module, with no ReLU after the
  sum.
- Initialisation is the released one: uniform with variance 1 / fan-in, the head N(0,
  0.01²), biases 0.

Departures
- Inputs are RGB in [0, 1], the mean and standard deviation giving the released BGR
  0..255 minus 104, 117, 123 in RGB order.
- A head that `reset_classifier` makes has neither ReLU nor padding (`head_relu=False,
  head_padding=0` builds it at once): with few classes a rectified logit can die, and
  without both the head is a linear classifier of the pooled features.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import check_choice
from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

FIRE = {  # Table 1: s1x1, e1x1, e3x3
    2: (16, 64, 64),
    3: (16, 64, 64),
    4: (32, 128, 128),
    5: (32, 128, 128),
    6: (48, 192, 192),
    7: (48, 192, 192),
    8: (64, 256, 256),
    9: (64, 256, 256),
}


class Fire(nn.Module):
    """Squeeze to few channels by 1x1, expand by 1x1 and 3x3 side by side: (N, C, H, W)
    to (N, expand1x1 + expand3x3, H, W).

    `bypass` is added to the output: "simple" where the input has as many channels,
    "complex" also elsewhere, through a 1x1.
    """

    def __init__(
        self, in_chans: int, squeeze: int, expand1x1: int, expand3x3: int, *, bypass: str = ""
    ) -> None:
        super().__init__()
        out_chans = expand1x1 + expand3x3
        self.squeeze = nn.Conv2d(in_chans, squeeze, 1)
        self.squeeze_relu = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze, expand1x1, 1)
        self.expand1x1_relu = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze, expand3x3, 3, padding=1)
        self.expand3x3_relu = nn.ReLU(inplace=True)
        self.bypass: nn.Module | None = None
        if bypass and in_chans == out_chans:
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Conv2d(in_chans, out_chans, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze_relu(self.squeeze(x))  # (N, squeeze, H, W)
        left = self.expand1x1_relu(self.expand1x1(squeezed))
        right = self.expand3x3_relu(self.expand3x3(squeezed))
        out = torch.cat([left, right], dim=1)  # (N, expand1x1 + expand3x3, H, W)
        if self.bypass is not None:
            out += self.bypass(x)
        return out


class SqueezeNet(Classifier):
    """SqueezeNet (Table 1). `conv1`: channels and kernel of the first convolution;
    `pools`: the layers with a pool after them.

    Input (N, in_chans, H, W) with H, W >= 21 (version 1.1: 17). A stage begins with its
    pool. `bypass`: "", "simple" or "complex". `head_padding` and `head_relu` say how
    the head makes logits of its map.
    """

    own_pool = "avg"
    new_head_note = (
        "SqueezeNet's new head has no ReLU after it, as with few classes a rectified logit can die"
    )

    def __init__(
        self,
        conv1: tuple[int, int] = (96, 7),
        pools: tuple[int, ...] = (1, 4, 8),
        bypass: str = "",
        head_padding: int = 0,
        head_relu: bool = True,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("SqueezeNet", "bypass", bypass, ("", "simple", "complex"))
        self.head_padding = head_padding
        self.head_relu = head_relu
        channels, kernel = conv1
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = nn.Conv2d(in_chans, channels, kernel, 2)
        layers["relu1"] = nn.ReLU(inplace=True)
        number = 1
        for layer, (squeeze, expand1x1, expand3x3) in FIRE.items():
            if layer - 1 in pools:
                stage = nn.Sequential(layers)  # (N, channels, about H / 2^number, W / 2^number)
                self.add_stage(f"stage{number}", stage, channels, 2**number)
                layers = OrderedDict({f"pool{layer - 1}": nn.MaxPool2d(3, 2, ceil_mode=True)})
                number += 1
            fire = Fire(channels, squeeze, expand1x1, expand3x3, bypass=bypass)
            layers[f"fire{layer}"] = fire
            channels = expand1x1 + expand3x3
        self.add_stage(f"stage{number}", nn.Sequential(layers), channels, 2**number)
        self.neck = nn.Dropout(drop_rate)  # (N, 512, H', W')
        self.head_hidden_size = channels
        self.head = self.make_head(num_classes)  # conv10: (N, num_classes, H', W')
        self.init_weights()

    def make_head(self, num_classes: int) -> nn.Module:
        if not num_classes:
            return nn.Identity()
        return nn.Conv2d(self.head_hidden_size, num_classes, 1, padding=self.head_padding)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.neck(x)
        if self.num_classes and not pre_logits:
            x = self.head(x)
            x = F.relu(x, inplace=True) if self.head_relu else x
        if self.unpooled:
            return x
        return F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, num_classes) or (N, 512)

    def before_new_head(self) -> None:
        self.head_relu = False
        self.head_padding = 0

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            if name == "head":
                init.normal_(module.weight, std=0.01)
            else:
                init.uniform_(module.weight, math.sqrt(3 / init.fans(module.weight)[0]))
            init.constant_(module.bias, 0)


TABLE_1 = {  # outputs
    "stage1.conv1": (96, 111, 111),
    "stage2.pool1": (96, 55, 55),
    "stage2.fire2": (128, 55, 55),
    "stage2.fire3": (128, 55, 55),
    "stage2.fire4": (256, 55, 55),
    "stage3.pool4": (256, 27, 27),
    "stage3.fire5": (256, 27, 27),
    "stage3.fire6": (384, 27, 27),
    "stage3.fire7": (384, 27, 27),
    "stage3.fire8": (512, 27, 27),
    "stage4.fire9": (512, 13, 13),
}
PARAMS = {  # Table 1
    "features.stage1.conv1": 14_208,
    "features.stage2.fire2": 11_920,
    "features.stage2.fire3": 12_432,
    "features.stage2.fire4": 45_344,
    "features.stage3.fire5": 49_440,
    "features.stage3.fire6": 104_880,
    "features.stage3.fire7": 111_024,
    "features.stage3.fire8": 188_992,
    "features.stage4.fire9": 197_184,
    "head": 513_000,
}
PRINTED = (
    PrintedFigure(
        "input",
        (3, 224, 224),
        "Table 1",
        compute=lambda model: model.image.size,
        reason="without padding 224 gives maps of 109; the table goes on with 111, which 227 gives",
    ),
    *stage_outputs("Table 1", TABLE_1),
    PrintedFigure("output", (1000, 13, 13), "Table 1", module="head"),
    *(PrintedFigure("params", count, "Table 1", module=path) for path, count in PARAMS.items()),
    PrintedFigure("params", 1_248_424, "Table 1"),
    PrintedFigure("bytes", 4.8 * 2**20, "Table 2", resolution=0.1 * 2**20),  # its MB is MiB
    PrintedFigure(
        "flops",
        1.72e9,
        "authors' repository",
        resolution=1e7,
        reason="the released network pads its last convolution: 861,339,936 MACs with "
        "head_padding=1",
    ),
)
PRINTED_1_1 = PrintedFigure(
    "flops",
    0.72e9,
    "authors' repository",
    resolution=1e7,
    reason="unexplained: 0.70e9 at 224, 0.78e9 at 227",
)


def row(
    *,
    conv1: tuple[int, int] = (96, 7),
    pools: tuple[int, ...] = (1, 4, 8),
    bypass: str = "",
    size: int = 227,
    min_size: int = 21,
    params: int,
    macs: int,
    printed: tuple[PrintedFigure, ...] = (),
    results: tuple[Result, ...] = (),
    note: str,
) -> Variant:
    """A network with its image `size` and its top-1 and top-5 accuracy."""
    image = ImageInput(
        (3, size, size),
        min_size=min_size,
        mean=(123 / 255, 117 / 255, 104 / 255),
        std=(1 / 255,) * 3,
    )
    return Variant(
        model_args={"conv1": conv1, "pools": pools, "bypass": bypass},
        claims=Claims(params, macs, printed),
        depth=18,
        inputs=(image,),
        results=results,
        note=note,
    )


def accuracy(top1: float, top5: float, source: str) -> tuple[Result, ...]:
    return error_rates(
        top1=top1, top5=top5, protocol="single network", source=source, metric="accuracy"
    )


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
        authors="F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer",
        year=2016,
        venue="arXiv",
        arxiv="1602.07360",
    ),
    build=SqueezeNet,
    variants={
        # section 6: bypass; exact counts; top-1 and top-5 accuracy in %
        "squeezenet1_0": row(
            params=1_248_424, macs=832_667_936, printed=PRINTED, results=accuracy(57.5, 80.3, "Table 2"), note="version 1.0, the paper's",
        ),
        "squeezenet1_1": row(
            conv1=(64, 3), pools=(1, 3, 5), size=224, min_size=17, params=1_235_496, macs=349_151_936, printed=(PRINTED_1_1,),
            note="version 1.1, the authors' later release: less than half the MACs",
        ),
        "squeezenet1_0_bypass": row(
            bypass="simple", params=1_248_424, macs=832_667_936, results=accuracy(60.4, 82.5, "Table 3"), note="simple bypass",
        ),
        "squeezenet1_0_complex_bypass": row(
            bypass="complex", params=1_589_672, macs=1_183_953_184, results=accuracy(58.8, 82.0, "Table 3"), note="complex bypass",
        ),
    },
)
