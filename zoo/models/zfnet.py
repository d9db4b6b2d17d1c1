"""ZFNet: AlexNet with a finer first layer, found by looking at what its maps see.

M. D. Zeiler, R. Fergus. Visualizing and Understanding Convolutional Networks. ECCV
2014, doi:10.1007/978-3-319-10590-1_53, arXiv:1311.2901. Layers: Fig. 3; training:
section 3; results: Table 2.

zfnet is the network of Fig. 3; zfnet512 the one of Table 2 with 512, 1024 and 512 maps
in layers 3 to 5. Input: RGB 0..255 minus the mean, not scaled.

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

from zoo.layers import init
from zoo.layers.classifier import Classifier
from zoo.layers.norm import krizhevsky_lrn
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant

CONVS = ((7, 2, 1), (5, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # Fig. 3: kernel, stride; padding
REDUCTIONS = (4, 16, 16, 16, 32)


class ZFNet(Classifier):
    """ZFNet (Fig. 3); `channels` of the five convolutions. Input (N, in_chans, H, W)
    with H, W >= 47.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int, int],
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__(num_classes, in_chans)
        for number, (width, (kernel, stride, padding), reduction) in enumerate(
            zip(channels, CONVS, REDUCTIONS, strict=True), 1
        ):
            layers: OrderedDict[str, nn.Module] = OrderedDict(
                conv=nn.Conv2d(in_chans, width, kernel, stride, padding),
                relu=nn.ReLU(inplace=True),
            )
            if number in (1, 2, 5):
                layers["pool"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            if number in (1, 2):
                layers["norm"] = krizhevsky_lrn()
            self.add_stage(
                f"stage{number}", nn.Sequential(layers), width, reduction
            )  # (N, width, about H / reduction, ...)
            in_chans = width
        self.num_features = 4096
        self.neck = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(6),  # (N, 256, 6, 6)
                flatten=nn.Flatten(),  # (N, 9216)
                fc6=nn.Linear(in_chans * 6 * 6, 4096),  # (N, 4096)
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


FIG_3 = (  # module, output
    ("stage1.conv", (96, 110, 110)),
    ("stage1", (96, 55, 55)),
    ("stage2.conv", (256, 26, 26)),
    ("stage2", (256, 13, 13)),
    ("stage3", (384, 13, 13)),
    ("stage4", (384, 13, 13)),
    ("stage5.conv", (256, 13, 13)),
    ("stage5", (256, 6, 6)),
)
WIDER = (
    *FIG_3[:4],
    ("stage3", (512, 13, 13)),
    ("stage4", (1024, 13, 13)),
    ("stage5.conv", (512, 13, 13)),
    ("stage5", (512, 6, 6)),
)


def errors(data: str, protocol: str, *values: float) -> tuple[Result, ...]:
    """The top-1 and top-5 error of a line of Table 2, or the top-5 error alone."""
    kinds = ("top-1 error %", "top-5 error %")[-len(values) :]
    return tuple(
        Result(kind, value, data, protocol, "Table 2")
        for kind, value in zip(kinds, values, strict=True)
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
            fields={"channels": (96, 256, 384, 384, 256)},
            claims=Claims(
                params=62_357_608,
                macs=1_168_032_896,
                printed=(
                    *(Printed("output", output, "Fig. 3", module=f"features.{module}") for module, output in FIG_3),
                    Printed("output", (4096,), "Fig. 3", module="neck.fc6"),
                    Printed("output", (4096,), "Fig. 3", module="neck.fc7"),
                ),
            ),
            depth=8,
            min_input=47,
            std=(1 / 255,) * 3,
            results=(
                *errors("ILSVRC-2012 val", "single network, 10 crops", 38.4, 16.5),
                *errors("ILSVRC-2012 val", "5 networks, 10 crops", 36.7, 15.3),
                *errors("ILSVRC-2012 test", "5 networks, 10 crops", 15.3),
            ),
            note="Fig. 3",
        ),
        "zfnet512": Variant(
            fields={"channels": (96, 256, 512, 1024, 512)},
            claims=Claims(
                params=107_627_624,
                macs=2_476_704_896,
                printed=tuple(Printed("output", output, "Fig. 3, Table 2 (b)", module=f"features.{module}") for module, output in WIDER),
            ),
            depth=8,
            min_input=47,
            std=(1 / 255,) * 3,
            results=(
                *errors("ILSVRC-2012 val", "single network, 10 crops", 37.5, 16.0),
                *errors("ILSVRC-2012 test", "single network, 10 crops", 16.1),
            ),
            note="Table 2 (b): 512, 1024 and 512 maps in layers 3 to 5",
        ),
    },
)
