"""Network in Network: convolutions whose filters are small perceptrons, and a mean over
class maps instead of fully connected layers.

M. Lin, Q. Chen, S. Yan. Network In Network. ICLR 2014, arXiv:1312.4400. Perceptron
convolution: section 3.1; global average pooling: 3.2; structure: Fig. 2 and section
4.1; results: Tables 1 and 2.

nin_cifar10 and nin_cifar100 are the paper's; it leaves their widths to the first
author's definition files (cuda-convnet), which these rows follow, initialisation
included. nin is the ImageNet network that he released later for Caffe; the paper has
none.

Readings
- Both pools of the CIFAR networks take the maximum: section 4.1 has a "spatial max
  pooling layer" after the mlpconv layers in all experiments, and so have the definition
  files. The CIFAR-10 network that the first author released later for Caffe, which most
  tables and ports follow, averages in the second one: `pools=("max", "avg")`; its
  counts are the same. All pools round up, unpadded.
- The last 1x1 convolution is the head: ReLU, as in the definition files, then the mean
  over its map gives the logits.
- Initialisation: N(0, 0.05²), N(0, std²) in the layers of the argument `init_std`,
  biases 0.

Departures
- CIFAR images are normalised with ImageNet's mean and standard deviation; the paper
  normalises each image's contrast and whitens. The ImageNet network takes RGB 0..255
  minus a mean per channel, not the mean image.
- Dropout scales in training, not at test time.
- A head that `reset_classifier` makes has no ReLU (`head_relu=False` builds it at
  once): with few classes a rectified logit can die.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Variant

POOLS: dict[str, Callable[..., nn.Module]] = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


class NiN(Classifier):
    """Stacked perceptron convolutions (Fig. 2). Input (N, in_chans, H, W).

    `blocks`: per block its widths, and kernel, stride and padding of its first
    convolution; the other two are 1x1, and the last one of the last block is the head.
    A pool of the kinds `pools` lies between any two blocks; `drops`: the blocks with
    dropout before them. `init_std`: initial standard deviations by layer. Raises
    InputError for an unknown pool.
    """

    own_pool = "avg"
    new_head_note = (
        "NiN's new head has no ReLU after it, as with few classes a rectified logit can die"
    )

    def __init__(
        self,
        blocks: tuple[tuple[tuple[int, ...], int, int, int], ...],
        pools: tuple[str, ...],
        drops: tuple[int, ...],
        init_std: dict[str, float] | None = None,
        head_relu: bool = True,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__(num_classes, in_chans)
        if len(pools) != len(blocks) - 1:
            raise InputError(f"NiN: pools={pools!r}: expected {len(blocks) - 1} of them")
        for kind in pools:
            check_choice("NiN", "pools", kind, POOLS)
        self.init_std = init_std or {}
        self.head_relu = head_relu
        reduction = 1
        for number, (widths, kernel, stride, padding) in enumerate(blocks, 1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if number > 1:
                pool = POOLS[pools[number - 2]]
                layers["pool"] = pool(3, 2, ceil_mode=True)  # (N, C, H / 2, W / 2)
                reduction *= 2
            if number in drops:
                layers["drop"] = nn.Dropout(drop_rate)
            layers[f"conv{number}"] = nn.Conv2d(
                in_chans, widths[0], kernel, stride, padding=padding
            )
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
            # Cascaded cross-channel parametric pooling:
            for i, (inputs, width) in enumerate(pairwise(widths), 2 * number - 1):
                layers[f"cccp{i}"] = nn.Conv2d(inputs, width, 1)
                layers[f"relu_cccp{i}"] = nn.ReLU(inplace=True)
            in_chans = widths[-1]
            reduction *= stride
            stage = nn.Sequential(layers)  # (N, in_chans, about H / reduction, W / reduction)
            self.add_stage(f"stage{number}", stage, in_chans, reduction)
        self.neck = nn.Identity()
        self.head_hidden_size = in_chans
        self.head = self.make_head(num_classes)  # (N, num_classes, H', W')
        self.init_weights()

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.head_hidden_size, num_classes, 1) if num_classes else nn.Identity()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if self.num_classes and not pre_logits:
            x = self.head(x)
            x = F.relu(x, inplace=True) if self.head_relu else x
        if self.unpooled:
            return x
        return F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, num_classes or head_hidden_size)

    def before_new_head(self) -> None:
        self.head_relu = False

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=self.init_std.get(name.rpartition(".")[2], 0.05))
            init.constant_(module.bias, 0)


Blocks = tuple[tuple[tuple[int, ...], int, int, int], ...]
CIFAR_BLOCKS: Blocks = (  # widths; kernel, stride and padding of the first convolution
    ((192, 160, 96), 5, 1, 2),
    ((192, 192, 192), 5, 1, 2),
    ((192, 192), 3, 1, 1),
)
IMAGENET_BLOCKS: Blocks = (
    ((96, 96, 96), 11, 4, 0),
    ((256, 256, 256), 5, 1, 2),
    ((384, 384, 384), 3, 1, 1),
    ((1024, 1024), 3, 1, 1),
)
IMAGENET_OUTPUTS = {
    "stage1": (96, 54, 54),
    "stage2": (256, 27, 27),
    "stage3": (384, 13, 13),
    "stage4": (1024, 6, 6),
}
CIFAR_OUTPUTS = {"stage1": (96, 32, 32), "stage2": (192, 16, 16), "stage3": (192, 8, 8)}
README = "released model's readme"
PRINTED = (
    PrintedFigure("bytes", 29 * 2**20, README, resolution=2**20),  # its MB is MiB
    *stage_outputs("released model", IMAGENET_OUTPUTS),
)


def cifar(*, num_classes: int, init_std: dict[str, float], params: int, macs: int) -> Variant:
    """A network of section 4.1 in the widths of its definition file."""
    return Variant(
        model_args={
            "blocks": CIFAR_BLOCKS,
            "pools": ("max", "max"),
            "drops": (2, 3),
            "init_std": init_std,
            "num_classes": num_classes,
        },
        claims=Claims(params, macs, stage_outputs("definition file", CIFAR_OUTPUTS)),
        depth=9,
        inputs=(ImageInput((3, 32, 32), min_size=4),),
    )


# fmt: off
FAMILY = Family(
    paper=Paper(title="Network In Network", authors="M. Lin, Q. Chen, S. Yan", year=2014, venue="ICLR", arxiv="1312.4400"),
    build=NiN,
    variants={
        "nin": Variant(
            model_args={
                "blocks": IMAGENET_BLOCKS,
                "pools": ("max", "max", "max"),
                "drops": (4,),
                "init_std": {"conv1": 0.01, "conv3": 0.01, "head": 0.01},
            },
            claims=Claims(params=7_595_176, macs=1_100_188_800, printed=PRINTED),
            depth=12,
            inputs=(ImageInput(min_size=39, std=(1 / 255,) * 3),),
            results=error_rates(top1=59.36, protocol="single network, centre crop", source=README, metric="accuracy"),
            note="for ImageNet, as the first author released it for Caffe",
        ),
        # classes; standard deviations of the first weights; exact counts
        "nin_cifar10": cifar(num_classes=10, init_std={}, params=966_986, macs=222_486_528),
        "nin_cifar100": cifar(
            num_classes=100, init_std={"conv1": 0.001, "cccp1": 0.01, "cccp2": 0.01}, params=984_356, macs=223_592_448,
        ),
    },
)
