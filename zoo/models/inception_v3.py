"""Inception-v3: large convolutions factorised into small and asymmetric ones.

C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna. Rethinking the Inception
Architecture for Computer Vision. CVPR 2016, arXiv:1512.00567. Factorisation: section 3;
auxiliary classifier: section 4; grid reduction: section 5; network: section 6; results:
section 10.

Reading
- Table 1 outlines a network whose filters are not all printed. inception_v3 is the one
  that the authors released in TensorFlow, which torchvision has too: conv 3b is 1x1, 4a
  has stride 1 and a pool after it, there is no further convolution before the modules,
  the modules at 35x35 keep one 5x5, and grids are reduced 35-17-8 by modules of their
  own. Blocks bear the released names.
- Means leave out the padding, as in the authors' release; torchvision's count it
  (`count_include_pad=True`).
- Batch norms have the release's eps. Their statistics move by torch's 0.1 a step, not
  by 0.0003.
- Initialisation is the released one: truncated normal, 0.1; the auxiliary classifier's
  5x5 has 0.01, its last layer 0.001.

Departures
- Input: RGB in [-1, 1], as released. torchvision's pretrained network takes its usual
  input and rescales it to that itself.
- The last map is averaged whole; at 299 it has 8x8. So is that of the auxiliary
  classifier, 1x1 at 299.

With `aux=True` the auxiliary classifier is there: 27,161,264 parameters.
"""

from collections import OrderedDict

from torch import nn

from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import AuxHead, Classifier, auxiliary_loss
from zoo.layers.inception import Branches, chain, conv_bn_relu
from zoo.layers.init import init_tensorflow_
from zoo.layers.neck import global_pool
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

AUX_WEIGHT = 0.4  # of the auxiliary loss, in the authors' release; the paper does not print it


def pooled(in_chans: int, out_chans: int, count_include_pad: bool) -> nn.Sequential:
    """The branch that starts with a mean: (N, C, H, W) to (N, out_chans, H, W)."""
    mean = nn.AvgPool2d(3, 1, padding=1, count_include_pad=count_include_pad)
    return chain(in_chans, mean, (out_chans, 1))


def inception_a(in_chans: int, projection: int, count_include_pad: bool) -> Branches:
    """35x35 (Figure 5, with one 5x5): (N, C, H, W) to (N, 224 + projection, H, W)."""
    return Branches(
        branch1x1=conv_bn_relu(in_chans, 64, 1),
        branch5x5=chain(in_chans, (48, 1), (64, 5)),
        branch3x3dbl=chain(in_chans, (64, 1), (96, 3), (96, 3)),
        branch_pool=pooled(in_chans, projection, count_include_pad),
    )


def reduction_b(in_chans: int) -> Branches:
    """35x35 to 17x17 (Figure 10): (N, C, H, W) to (N, 480 + C, H/2, W/2)."""
    return Branches(
        branch3x3=conv_bn_relu(in_chans, 384, 3, 2, padding=0),
        branch3x3dbl=chain(in_chans, (64, 1), (96, 3), (96, 3, 2, 0)),
        branch_pool=nn.MaxPool2d(3, 2),
    )


def inception_c(in_chans: int, c7: int, count_include_pad: bool) -> Branches:
    """17x17 (Figure 6, n = 7): (N, C, H, W) to (N, 768, H, W); `c7` is the width
    between the 1x7 and 7x1 convolutions.
    """
    long = ((c7, 1), (c7, (7, 1)), (c7, (1, 7)), (c7, (7, 1)), (192, (1, 7)))
    return Branches(
        branch1x1=conv_bn_relu(in_chans, 192, 1),
        branch7x7=chain(in_chans, (c7, 1), (c7, (1, 7)), (192, (7, 1))),
        branch7x7dbl=chain(in_chans, *long),
        branch_pool=pooled(in_chans, 192, count_include_pad),
    )


def reduction_d(in_chans: int) -> Branches:
    """17x17 to 8x8: (N, C, H, W) to (N, 512 + C, H/2, W/2)."""
    return Branches(
        branch3x3=chain(in_chans, (192, 1), (320, 3, 2, 0)),
        branch7x7x3=chain(in_chans, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, 0)),
        branch_pool=nn.MaxPool2d(3, 2),
    )


def inception_e(in_chans: int, count_include_pad: bool) -> Branches:
    """8x8 (Figure 7): (N, C, H, W) to (N, 2048, H, W)."""
    return Branches(
        branch1x1=conv_bn_relu(in_chans, 320, 1),
        branch3x3=chain(in_chans, (384, 1), split_3x3(384)),
        branch3x3dbl=chain(in_chans, (448, 1), (384, 3), split_3x3(384)),
        branch_pool=pooled(in_chans, 192, count_include_pad),
    )


def split_3x3(in_chans: int) -> Branches:
    """1x3 and 3x1 side by side: (N, C, H, W) to (N, 768, H, W)."""
    return Branches(a=conv_bn_relu(in_chans, 384, (1, 3)), b=conv_bn_relu(in_chans, 384, (3, 1)))


class InceptionV3(Classifier):
    """Inception-v3. Input (N, in_chans, H, W) with H, W >= 75. A stage begins with what
    reduces the grid.

    `count_include_pad`: whether the means of a module's pool count the padding. `aux`:
    the auxiliary classifier, on the last 17x17 map; training with it takes 299 pixels
    or more.
    """

    def __init__(
        self,
        count_include_pad: bool = False,
        aux: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.2,
    ) -> None:
        super().__init__(num_classes, in_chans)
        pad = count_include_pad
        stages: dict[str, dict[str, nn.Module]] = {
            "stage1": {
                "conv2d_1a": conv_bn_relu(in_chans, 32, 3, 2, padding=0),  # 149x149
                "conv2d_2a": conv_bn_relu(32, 32, 3, padding=0),  # 147x147
                "conv2d_2b": conv_bn_relu(32, 64, 3),
            },
            "stage2": {
                "maxpool1": nn.MaxPool2d(3, 2),  # 73x73
                "conv2d_3b": conv_bn_relu(64, 80, 1),
                "conv2d_4a": conv_bn_relu(80, 192, 3, padding=0),  # 71x71
            },
            "stage3": {
                "maxpool2": nn.MaxPool2d(3, 2),  # 35x35
                "mixed_5b": inception_a(192, 32, pad),
                "mixed_5c": inception_a(256, 64, pad),
                "mixed_5d": inception_a(288, 64, pad),
            },
            "stage4": {
                "mixed_6a": reduction_b(288),  # 17x17
                "mixed_6b": inception_c(768, 128, pad),
                "mixed_6c": inception_c(768, 160, pad),
                "mixed_6d": inception_c(768, 160, pad),
                "mixed_6e": inception_c(768, 192, pad),
            },
            "stage5": {
                "mixed_7a": reduction_d(768),  # 8x8
                "mixed_7b": inception_e(1280, pad),
                "mixed_7c": inception_e(2048, pad),
            },
        }
        outputs = zip(stages.items(), (64, 192, 288, 768, 2048), strict=True)
        for number, ((name, blocks), channels) in enumerate(outputs, 1):
            stage = nn.Sequential(OrderedDict(blocks))  # (N, channels, about H / 2^number, ...)
            self.add_stage(name, stage, channels, 2**number)
        if aux:
            self.set_aux(nn.ModuleDict({"mixed_6e": self.make_aux()}))
        self.neck = global_pool(drop_rate=drop_rate)  # (N, 2048)
        self.head_hidden_size = 2048
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def make_aux(self) -> AuxHead:
        """The auxiliary classifier, with batch norm (section 4): (N, 768, 17, 17)."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["pool"] = nn.AvgPool2d(5, 3)  # (N, 768, 5, 5)
        layers["conv0"] = conv_bn_relu(768, 128, 1)  # (N, 128, 5, 5)
        layers["conv1"] = conv_bn_relu(128, 768, 5, padding=0)  # (N, 768, 1, 1)
        layers["mean"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()  # (N, 768)
        return AuxHead(nn.Sequential(layers), 768, self.num_classes, smallest=17)

    def init_module(self, name: str, module: nn.Module) -> None:
        special = {"aux.mixed_6e.body.conv1.conv": 0.01, "aux.mixed_6e.head": 0.001}
        init_tensorflow_(module, special.get(name, 0.1))


def under_25_million(model: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in model.parameters()) < 25_000_000


OUTPUTS = {  # of the released network
    "stage1.conv2d_1a": (32, 149, 149),
    "stage1.conv2d_2a": (32, 147, 147),
    "stage1": (64, 147, 147),
    "stage2.conv2d_3b": (80, 73, 73),
    "stage2": (192, 71, 71),
    "stage3.mixed_5b": (256, 35, 35),
    "stage3": (288, 35, 35),
    "stage4.mixed_6a": (768, 17, 17),
    "stage4": (768, 17, 17),
    "stage5.mixed_7a": (1280, 8, 8),
    "stage5": (2048, 8, 8),
}
PRINTED = (
    PrintedFigure("under 25 million parameters", True, "abstract", compute=under_25_million),
    PrintedFigure("macs", 5e9, "abstract", resolution=1e9),
    PrintedFigure(
        "macs",
        4.8e9,
        "Table 3",
        resolution=1e8,
        reason="that of a stem which the text does not fix; the release has 5.7",
    ),
    PrintedFigure(
        "depth",
        42,
        "6",
        reason="the longest path of the release has 48 convolutions and products",
    ),
    *stage_outputs("release", OUTPUTS),
)


def errors(
    *,
    top1: float | None = None,
    top5: float | None = None,
    part: str = "val",
    protocol: str,
    source: str,
) -> tuple[Result, ...]:
    data = f"ILSVRC-2012 {part}"
    return error_rates(top1=top1, top5=top5, data=data, protocol=protocol, source=source)


BLACKLIST = "val without its blacklisted images"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Rethinking the Inception Architecture for Computer Vision",
        authors="C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna",
        year=2016,
        venue="CVPR",
        arxiv="1512.00567",
        doi="10.1109/CVPR.2016.308",
    ),
    build=InceptionV3,
    variants={
        "inception_v3": Variant(
            model_args={},
            claims=Claims(params=23_834_568, macs=5_713_216_096, printed=PRINTED),
            depth=42,
            inputs=(ImageInput((3, 299, 299), min_size=75, mean=(0.5,) * 3, std=(0.5,) * 3),),
            results=(
                *errors(top1=21.2, top5=5.6, part=BLACKLIST, protocol="single network, single crop", source="Table 3"),
                *errors(top1=19.47, top5=4.48, protocol="single network, 12 crops", source="Table 4"),
                *errors(top1=18.77, top5=4.2, protocol="single network, 144 crops", source="Table 4"),
                *errors(top1=17.2, protocol="4 networks, 144 crops", source="Table 5"),
                *errors(top5=3.58, part="test", protocol="4 networks, 144 crops", source="Table 5"),
            ),
            note="the network that the authors released",
        ),
    },
    loss=auxiliary_loss(AUX_WEIGHT),
)
