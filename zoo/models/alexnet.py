"""AlexNet: the network that won ILSVRC-2012, Caffe's version of it, and the one-tower
network of its first author.

A. Krizhevsky, I. Sutskever, G. E. Hinton. ImageNet Classification with Deep
Convolutional Neural Networks. NIPS 2012, reprinted as doi:10.1145/3065386. Layers:
section 3.5 and Fig. 2; normalisation: 3.3; pooling: 3.4; initialisation: section 5.

alexnet is the network of the paper as one graph: the two towers are two groups in
conv2, conv4 and conv5, and the towers are connected where the paper says.
caffenet is BVLC's reference network: it pools before it normalises, its fully connected
layers start at N(0, 0.005²), and its normalisation has Caffe's constants (k=1,
alpha=1e-4 times the mean, here 2e-5 times the sum). BVLC's own weights of `alexnet`
need these constants too: `lrn_k=1, lrn_alpha=2e-5`. Input of both: RGB 0..255 minus the
mean, not scaled.

alexnet_owt is the single tower of A. Krizhevsky, One weird trick for parallelizing
convolutional neural networks, 2014, arXiv:1404.5997, as torchvision has it: no
normalisation, dropout before fc6 and fc7 instead of after them, and input in ImageNet's
mean and standard deviation. No initialisation is printed for it: Glorot's is ours.

Readings and departures
- The input is 227, not the printed 224: (224 - 11) / 4 is no integer, and without
  padding only 227 to 230 pixels give maps of 55x55.
- Normalisation sums over neighbouring channels across the border of the towers; on two
  GPUs each tower may have stopped there.
- Maps of other sizes than 6x6 are averaged to that before fc6, as torchvision does;
  inputs of 227 and 224 are not changed by it.
- The mean image is a mean per channel, and dropout scales in training, not at test
  time.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import nn

from zoo.errors import check_choice
from zoo.figures import error_rates
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.layers.neck import fully_connected
from zoo.layers.norm import alexnet_lrn
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Variant

KERNELS = (11, 5, 3, 3, 3)  # of the five convolutions
REDUCTIONS = (8, 16, 16, 16, 32)  # conv1 has stride 4; pools follow conv1, conv2 and conv5
UNIT_BIAS = (  # section 5
    "features.stage2.conv",
    "features.stage4.conv",
    "features.stage5.conv",
    "neck.fc6",
    "neck.fc7",
)


class AlexNet(Classifier):
    """AlexNet (section 3.5); the arguments are what its versions differ in.

    Input (N, in_chans, H, W). `channels` of the five convolutions; `groups` of conv2,
    conv4 and conv5; `padding` of conv1; `order` of what follows conv1 and conv2:
    "norm-pool", "pool-norm" or "pool"; `hidden`: the width of fc6 and fc7; `lrn_k` and
    `lrn_alpha` (times the sum) of the normalisation; `ceil_mode` of the pools;
    `drop_first`: dropout on the inputs of fc6 and fc7 instead of their outputs; `init`:
    "paper", "caffe" or "glorot". Raises InputError for an unknown `order` or `init`.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int, int],
        groups: int,
        padding: int,
        order: str,
        lrn_k: float = 2.0,
        lrn_alpha: float = 1e-4,
        ceil_mode: bool = True,
        drop_first: bool = False,
        hidden: int = 4096,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
        init: str = "paper",
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("AlexNet", "order", order, ("norm-pool", "pool-norm", "pool"))
        check_choice("AlexNet", "init", init, ("paper", "caffe", "glorot"))
        self.init = init
        first = order.split("-")
        steps = {1: first, 2: first, 5: ["pool"]}  # after the convolution of a stage
        for number, (width, kernel, reduction) in enumerate(
            zip(channels, KERNELS, REDUCTIONS, strict=True), 1
        ):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if number == 1:
                layers["conv"] = nn.Conv2d(in_chans, width, kernel, stride=4, padding=padding)
            else:
                layers["conv"] = nn.Conv2d(
                    in_chans,
                    width,
                    kernel,
                    padding=kernel // 2,
                    groups=1 if number == 3 else groups,
                )
            layers["relu"] = nn.ReLU(inplace=True)
            for step in steps.get(number, ()):
                if step == "pool":
                    layers["pool"] = nn.MaxPool2d(3, 2, ceil_mode=ceil_mode)
                else:
                    layers["norm"] = alexnet_lrn(lrn_k, lrn_alpha)
            stage = nn.Sequential(layers)  # (N, width, H / reduction, W / reduction)
            self.add_stage(f"stage{number}", stage, width, reduction)
            in_chans = width
        self.neck = fully_connected(
            in_chans, side=6, hidden=hidden, drop_rate=drop_rate, drop_first=drop_first
        )
        self.head_hidden_size = hidden
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            return
        if self.init == "glorot":
            init.glorot_uniform_(module.weight)
            init.constant_(module.bias, 0)
        else:
            small = self.init == "caffe" and name in ("neck.fc6", "neck.fc7")
            init.normal_(module.weight, std=0.005 if small else 0.01)
            init.constant_(module.bias, 1 if name in UNIT_BIAS else 0)


def neurons(*layers: int) -> Callable[[AlexNet], int]:
    """The outputs of the layers with these numbers, 1 to 8 (none: all), at 227x227."""

    def count(model: AlexNet) -> int:
        counts = []
        x = torch.empty(1, model.in_chans, 227, 227, device=next(model.parameters()).device)
        for part in chain(
            *(stage.children() for stage in model.features), model.neck.children(), [model.head]
        ):
            x = part(x)
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                counts.append(x.numel())
        return sum(counts[layer - 1] for layer in layers or range(1, 9))

    return count


def kernels(layer: int) -> Callable[[AlexNet], tuple[int, ...]]:
    """The shape (out, in, height, width) of a convolution's weight."""
    return lambda model: tuple(model.get_parameter(f"features.stage{layer}.conv.weight").shape)


def input_side(model: AlexNet) -> int:
    """The smallest input whose maps after conv1 are 55 pixels wide."""
    conv: Any = model.get_submodule("features.stage1.conv")
    return 54 * conv.stride[0] + conv.kernel_size[0] - 2 * conv.padding[0]


NEURONS = (186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000)  # Fig. 2, from the second layer
SHAPES = (  # section 3.5
    (96, 3, 11, 11),
    (256, 48, 5, 5),
    (384, 256, 3, 3),
    (384, 192, 3, 3),
    (256, 192, 3, 3),
)
CHANNELS = (96, 256, 384, 384, 256)
INPUT = ImageInput((3, 227, 227), min_size=39, std=(1 / 255,) * 3)  # RGB 0..255 minus the mean


def paper_figures() -> tuple[PrintedFigure, ...]:
    """What the paper prints of its network."""
    neurons_of_1 = "55x55x96 are 290,400; 253,440 are 55x48x96"
    side = "(224 - 11) / 4 is no integer: 55x55 maps need 227"
    figures = [
        PrintedFigure("params", 60e6, "abstract", resolution=1e6),
        PrintedFigure("neurons", 650_000, "abstract", resolution=10_000, compute=neurons()),
        PrintedFigure(
            "neurons of layer 1", 253_440, "Fig. 2", compute=neurons(1), reason=neurons_of_1
        ),
        PrintedFigure("input side", 224, "3.5", compute=input_side, reason=side),
    ]
    for i, count in enumerate(NEURONS, 2):
        name = f"neurons of layer {i}"
        figures.append(PrintedFigure(name, count, "Fig. 2", compute=neurons(i)))
    for i, shape in enumerate(SHAPES, 1):
        figures.append(PrintedFigure(f"kernels of conv{i}", shape, "3.5", compute=kernels(i)))
    return tuple(figures)


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="ImageNet Classification with Deep Convolutional Neural Networks",
        authors="A. Krizhevsky, I. Sutskever, G. E. Hinton",
        year=2012,
        venue="NIPS",
        doi="10.1145/3065386",
    ),
    build=AlexNet,
    variants={
        "alexnet": Variant(
            model_args={"channels": CHANNELS, "groups": 2, "padding": 0, "order": "norm-pool"},
            claims=Claims(params=60_965_224, macs=724_406_816, printed=paper_figures()),
            depth=8,
            inputs=(INPUT,),
            results=(
                *error_rates(top1=37.5, top5=17.0, data="ILSVRC-2010 test", protocol="single network, 10 crops", source="6"),
                *error_rates(top1=40.7, top5=18.2, protocol="single network, 10 crops", source="6"),
                *error_rates(top1=38.1, top5=16.4, protocol="5 networks, 10 crops", source="6"),
                *error_rates(top5=16.4, data="ILSVRC-2012 test", protocol="5 networks, 10 crops", source="6"),
            ),
            tiny={"hidden": 64},
            note="the network of 2012, two towers",
        ),
        "caffenet": Variant(
            model_args={
                "channels": CHANNELS,
                "groups": 2,
                "padding": 0,
                "order": "pool-norm",
                "lrn_k": 1.0,
                "lrn_alpha": 1e-4 / 5,
                "init": "caffe",
            },
            claims=Claims(params=60_965_224, macs=724_406_816),
            depth=8,
            inputs=(INPUT,),
            tiny={"hidden": 64},
            note="BVLC's reference CaffeNet: pooling before normalisation",
        ),
        "alexnet_owt": Variant(
            model_args={
                "channels": (64, 192, 384, 256, 256),
                "groups": 1,
                "padding": 2,
                "order": "pool",
                "ceil_mode": False,
                "drop_first": True,
                "init": "glorot",
            },
            claims=Claims(params=61_100_840, macs=714_188_480),
            depth=8,
            inputs=(ImageInput(min_size=63),),
            tiny={"hidden": 64},
            note="one tower, of One weird trick for parallelizing convolutional neural networks (arXiv:1404.5997), as in torchvision",
        ),
    },
)
