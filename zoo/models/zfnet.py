"""ZFNet: AlexNet with a finer first layer, found by looking at what activates its maps.

M. D. Zeiler, R. Fergus. Visualizing and Understanding Convolutional Networks. ECCV
2014, doi:10.1007/978-3-319-10590-1_53, arXiv:1311.2901. Layers: Fig. 3; training:
section 3; results: Table 2.

zfnet is the network of Fig. 3; zfnet512 the one of Table 2 with 512, 1024 and 512
channels in layers 3 to 5. Input: RGB 0..255 minus the mean, not scaled.

Readings
- Fig. 3 prints map sizes and no paddings: 110 after conv1 needs one pixel, 26 after
  conv2 none, 13 in layers 3 to 5 one, and pools without padding that round up give 55,
  13 and 6.
- "Contrast normalised across feature maps" comes after the pool, as in Fig. 3; its
  constants are not printed: AlexNet's.
- All weights start "at 1e-2", which no network could learn from: N(0, 0.01²), biases 0.

Departures
- Maps of other sizes than 6x6 are averaged to that before fc6; at 224 that changes
  nothing.
- The mean image is a mean per channel, and dropout scales in training, not at test
  time.
- Section 3 rescales filters after each update: `renormalise_filters` does that, for a
  training loop that wants it; it is meant for inputs of about -128 to 128.
"""

from collections import OrderedDict

import torch
from torch import nn

from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.layers.neck import fully_connected
from zoo.layers.norm import alexnet_lrn
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

CONVS = ((7, 2, 1), (5, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # Fig. 3: kernel, stride; padding
REDUCTIONS = (4, 16, 16, 16, 32)


class ZFNet(Classifier):
    """ZFNet (Fig. 3); `channels` of the five convolutions, `hidden`: the width of fc6
    and fc7. Input (N, in_chans, H, W) with H, W >= 47.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int, int],
        hidden: int = 4096,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__(num_classes, in_chans)
        for number, (width, (kernel, stride, padding), reduction) in enumerate(
            zip(channels, CONVS, REDUCTIONS, strict=True), 1
        ):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            layers["conv"] = nn.Conv2d(in_chans, width, kernel, stride, padding=padding)
            layers["relu"] = nn.ReLU(inplace=True)
            if number in (1, 2, 5):
                layers["pool"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            if number in (1, 2):
                layers["norm"] = alexnet_lrn()
            stage = nn.Sequential(layers)  # (N, width, H / reduction, W / reduction)
            self.add_stage(f"stage{number}", stage, width, reduction)
            in_chans = width
        self.neck = fully_connected(in_chans, side=6, hidden=hidden, drop_rate=drop_rate)
        self.head_hidden_size = hidden
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.normal_(module.weight, std=0.01)
            init.constant_(module.bias, 0)


@torch.no_grad()
def renormalise_filters(model: nn.Module, radius: float = 0.1) -> None:
    """Section 3, after an update: scale each filter of a convolution whose root mean
    square exceeds `radius` back to it.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            rms = module.weight.square().mean((1, 2, 3), keepdim=True).sqrt()  # (out, 1, 1, 1)
            module.weight.mul_((radius / rms).clamp(max=1))


FIG_3 = {
    "stage1.conv": (96, 110, 110),
    "stage1": (96, 55, 55),
    "stage2.conv": (256, 26, 26),
    "stage2": (256, 13, 13),
    "stage3": (384, 13, 13),
    "stage4": (384, 13, 13),
    "stage5.conv": (256, 13, 13),
    "stage5": (256, 6, 6),
}
WIDER = {
    **FIG_3,
    "stage3": (512, 13, 13),
    "stage4": (1024, 13, 13),
    "stage5.conv": (512, 13, 13),
    "stage5": (512, 6, 6),
}
HIDDEN = tuple(PrintedFigure("output", (4096,), "Fig. 3", module=f"neck.fc{i}") for i in (6, 7))


def table_2(
    *, top1: float | None = None, top5: float, part: str = "val", networks: str = "single network"
) -> tuple[Result, ...]:
    """A line of Table 2: the top-1 and top-5 error, or the top-5 error alone."""
    return error_rates(
        top1=top1,
        top5=top5,
        data=f"ILSVRC-2012 {part}",
        protocol=f"{networks}, 10 crops",
        source="Table 2",
    )


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Visualizing and Understanding Convolutional Networks",
        authors="M. D. Zeiler, R. Fergus",
        year=2014,
        venue="ECCV",
        arxiv="1311.2901",
        doi="10.1007/978-3-319-10590-1_53",
    ),
    build=ZFNet,
    variants={
        "zfnet": Variant(
            model_args={"channels": (96, 256, 384, 384, 256)},
            claims=Claims(params=62_357_608, macs=1_168_032_896, printed=(*stage_outputs("Fig. 3", FIG_3), *HIDDEN)),
            depth=8,
            inputs=(ImageInput(min_size=47, std=(1 / 255,) * 3),),
            results=(
                *table_2(top1=38.4, top5=16.5),
                *table_2(top1=36.7, top5=15.3, networks="5 networks"),
                *table_2(top5=15.3, part="test", networks="5 networks"),
            ),
            tiny={"hidden": 64},
            note="Fig. 3",
        ),
        "zfnet512": Variant(
            model_args={"channels": (96, 256, 512, 1024, 512)},
            claims=Claims(params=107_627_624, macs=2_476_704_896, printed=stage_outputs("Fig. 3, Table 2 (b)", WIDER)),
            depth=8,
            inputs=(ImageInput(min_size=47, std=(1 / 255,) * 3),),
            results=(
                *table_2(top1=37.5, top5=16.0),
                *table_2(top5=16.1, part="test"),
            ),
            tiny={"channels": (96, 256, 384, 384, 256), "hidden": 64},
            note="Table 2 (b): 512, 1024 and 512 channels in layers 3 to 5",
        ),
    },
)
