"""AlexNet: the network that won ILSVRC-2012, Caffe's version of it, and the one-tower
network of its first author.

A. Krizhevsky, I. Sutskever, G. E. Hinton. ImageNet Classification with Deep
Convolutional Neural Networks. NIPS 2012, reprinted as doi:10.1145/3065386. Layers:
section 3.5 and Fig. 2; normalisation: 3.3; pooling: 3.4; initialisation: section 5.

alexnet is the network of the paper as one graph: the two towers are two groups in
conv2, conv4 and conv5, and what a tower sees of the other is what the paper says.
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
- Normalisation sums over neighbouring maps across the border of the towers; on two GPUs
  each tower may have stopped there.
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

from zoo.errors import InputError
from zoo.layers import init
from zoo.layers.classifier import Classifier
from zoo.layers.norm import krizhevsky_lrn
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant

KERNELS = (11, 5, 3, 3, 3)  # of the five convolutions
REDUCTIONS = (8, 16, 16, 16, 32)  # conv1 has stride 4; pools follow conv1, conv2 and conv5
UNIT_BIAS = (
    "features.stage2.conv",
    "features.stage4.conv",
    "features.stage5.conv",
    "neck.fc6",
    "neck.fc7",
)  # section 5


class AlexNet(Classifier):
    """AlexNet (section 3.5); the fields are what its versions differ in.

    Input (N, in_chans, H, W). `channels` of the five convolutions; `groups` of conv2,
    conv4 and conv5; `padding` of conv1; `order` of what follows conv1 and conv2:
    "norm-pool", "pool-norm" or "pool"; `lrn_k` and `lrn_alpha` (times the sum) of the
    normalisation; `ceil_mode` of the pools; `drop_first`: dropout on the inputs of fc6
    and fc7 instead of their outputs; `init`: "paper", "caffe" or "glorot". Raises
    InputError for an unknown `order` or `init`.
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
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
        init: str = "paper",
    ) -> None:
        super().__init__(num_classes, in_chans)
        if order not in ("norm-pool", "pool-norm", "pool"):
            raise InputError(f"order={order!r}: AlexNet knows 'norm-pool', 'pool-norm' and 'pool'")
        if init not in ("paper", "caffe", "glorot"):
            raise InputError(f"init={init!r}: AlexNet knows 'paper', 'caffe' and 'glorot'")
        self.init = init
        for i, (width, kernel, reduction) in enumerate(
            zip(channels, KERNELS, REDUCTIONS, strict=True)
        ):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if i == 0:
                layers["conv"] = nn.Conv2d(in_chans, width, kernel, stride=4, padding=padding)
            else:
                layers["conv"] = nn.Conv2d(
                    in_chans, width, kernel, padding=kernel // 2, groups=1 if i == 2 else groups
                )
            layers["relu"] = nn.ReLU(inplace=True)
            for step in order.split("-") if i < 2 else ["pool"] * (i == 4):
                layers[step] = (
                    nn.MaxPool2d(3, 2, ceil_mode=ceil_mode)
                    if step == "pool"
                    else krizhevsky_lrn(lrn_k, lrn_alpha)
                )
            self.add_stage(
                f"stage{i + 1}", nn.Sequential(layers), width, reduction
            )  # (N, width, H / reduction, ...)
            in_chans = width
        self.num_features = 4096
        hidden: OrderedDict[str, nn.Module] = OrderedDict(
            pool=nn.AdaptiveAvgPool2d(6),  # (N, 256, 6, 6)
            flatten=nn.Flatten(),  # (N, 9216)
        )
        for number, width in ((6, channels[-1] * 6 * 6), (7, 4096)):
            if drop_first:
                hidden[f"drop{number}"] = nn.Dropout(drop_rate)
            hidden[f"fc{number}"] = nn.Linear(width, 4096)  # (N, 4096)
            hidden[f"relu{number}"] = nn.ReLU(inplace=True)
            if not drop_first:
                hidden[f"drop{number}"] = nn.Dropout(drop_rate)
        self.neck = nn.Sequential(hidden)
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
    """The number of outputs of the layers with these numbers from 1 to 8 (none: all) at
    227x227.
    """

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


def errors(data: str, protocol: str, top1: float, top5: float) -> tuple[Result, Result]:
    return (
        Result("top-1 error %", top1, data, protocol, "6"),
        Result("top-5 error %", top5, data, protocol, "6"),
    )


NEURONS = (186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000)  # Fig. 2, from the second layer
SHAPES = (
    (96, 3, 11, 11),
    (256, 48, 5, 5),
    (384, 256, 3, 3),
    (384, 192, 3, 3),
    (256, 192, 3, 3),
)  # section 3.5
CHANNELS = (96, 256, 384, 384, 256)
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
            fields={"channels": CHANNELS, "groups": 2, "padding": 0, "order": "norm-pool"},
            claims=Claims(
                params=60_965_224,
                macs=724_406_816,
                printed=(
                    Printed("params", 60e6, "abstract", unit=1e6),
                    Printed("neurons", 650_000, "abstract", unit=10_000, by=neurons()),
                    Printed("neurons of layer 1", 253_440, "Fig. 2", by=neurons(1), reason="55x55x96 are 290,400; 253,440 are 55x48x96"),
                    *(Printed(f"neurons of layer {i}", n, "Fig. 2", by=neurons(i)) for i, n in enumerate(NEURONS, 2)),
                    *(Printed(f"kernels of conv{i}", shape, "3.5", by=kernels(i)) for i, shape in enumerate(SHAPES, 1)),
                    Printed("input side", 224, "3.5", by=input_side, reason="(224 - 11) / 4 is no integer: 55x55 maps need 227"),
                ),
            ),
            depth=8,
            input_size=(3, 227, 227),
            min_input=39,
            std=(1 / 255,) * 3,
            results=(
                *errors("ILSVRC-2010 test", "single network, 10 crops", 37.5, 17.0),
                *errors("ILSVRC-2012 val", "single network, 10 crops", 40.7, 18.2),
                *errors("ILSVRC-2012 val", "5 networks, 10 crops", 38.1, 16.4),
                Result("top-5 error %", 16.4, "ILSVRC-2012 test", "5 networks, 10 crops", "6"),
            ),
            note="the network of 2012, two towers",
        ),
        "caffenet": Variant(
            fields={
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
            input_size=(3, 227, 227),
            min_input=39,
            std=(1 / 255,) * 3,
            note="BVLC's reference CaffeNet: pooling before normalisation",
        ),
        "alexnet_owt": Variant(
            fields={
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
            min_input=63,
            note="one tower, of One weird trick for parallelizing convolutional neural networks (arXiv:1404.5997), as in torchvision",
        ),
    },
)
