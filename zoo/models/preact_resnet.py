"""Pre-activation ResNet: identity shortcuts that nothing interrupts, from the first
residual unit to the last.

K. He, X. Zhang, S. Ren, J. Sun. Identity Mappings in Deep Residual Networks. ECCV 2016,
arXiv:1603.05027. Shortcuts: section 3, Figure 2 and Table 1; orders in a unit: section
4, Figure 4 and Table 2; first and last unit: appendix; results: Tables 2 to 5.

The rows have full pre-activation, Figure 4 (e); `order` gives (a) to (d). Figure 2: (a)
is the plain addition, `join="scaled"` (b), "exclusive" (c), "shortcut" (d), "dropout"
(f), `shortcut="C"` (e). `unit="single"` has one convolution, as in Table 3.

Readings
- In a unit that changes dimensions, and in the first of all (appendix), the activation
  before the first convolution stands before the split and feeds the shortcut too, as in
  the authors' code; elsewhere the shortcut takes the unit's input as it is.
- A projection is a bare 1x1 convolution; where the order has the batch norm at the end
  of the branch, it has one too.
- The CIFAR-10 nets of two convolutions per unit pad (option A), as the nets that they
  change; those of three project (B).
- The bottleneck's stride is in its first 1x1, as in the authors' code.
  `stride_in="3x3"`: equal shapes, another function.
- On ImageNet the first convolution keeps its batch norm, ReLU and pool, and the first
  unit has its own activation as well.
- For the ReLU-only order the first convolution keeps its batch norm, and the last sum
  gets a ReLU alone.
- A gate is a 1x1 convolution to as many channels as the unit has, with the branch's
  stride. Dropout is not rescaled in training but halved in evaluation, as the paper
  gives it the expectation 0.5.
- preresnet18, 34, 50 and 101 are the same recipe at ResNet's other depths; the paper
  has 152 and 200.

Departures
- Inputs are RGB in [0, 1], normalised per channel: with CIFAR-10's or ImageNet's mean
  and standard deviation.
- Initialisation: He, as ResNet's; the authors' code draws its head uniformly.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.errors import check_choice
from zoo.figures import CIFAR10_TEST, error_rates, residual_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.layers.neck import global_pool
from zoo.layers.residual import add_stages, add_stem, conv, init_he_, make_shortcut
from zoo.spec import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    Claims,
    Family,
    ImageInput,
    Paper,
    PrintedFigure,
    Result,
    Variant,
)


class Order(NamedTuple):
    """Where a unit has its batch norms and ReLUs."""

    stem: str  # after the first convolution of the CIFAR-10 nets
    before: str  # before a unit's first convolution; once more after the last unit
    between: str  # between its convolutions
    after: str  # after its last convolution
    sum: str  # after the addition


ORDERS = {  # Figure 4 (a) to (e): stem, before, between, after, sum
    "original": Order("bn relu", "", "bn relu", "bn", "relu"),
    "bn_after_addition": Order("bn relu", "", "bn relu", "", "bn relu"),
    "relu_before_addition": Order("bn relu", "", "bn relu", "bn relu", ""),
    "relu_only": Order("bn", "relu", "bn relu", "bn", ""),
    "full": Order("", "bn relu", "bn relu", "", ""),
}
UNITS = {"single": (3,), "basic": (3, 3), "bottleneck": (1, 3, 1)}  # kernel sizes
JOINS = ("add", "scaled", "exclusive", "shortcut", "dropout")


def activation(kinds: str, channels: int, number: int | str = "") -> OrderedDict[str, nn.Module]:
    """The layers "bn", "relu" or "bn relu", named with `number`."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if "bn" in kinds:
        layers[f"bn{number}"] = nn.BatchNorm2d(channels)
    if "relu" in kinds:
        layers[f"relu{number}"] = nn.ReLU(inplace="bn" in kinds)
    return layers


class Scaled(nn.Module):
    """Figure 2 (b): constant factors on the shortcut and on the branch; with
    `drop_rate` (f), dropout on the shortcut before.
    """

    def __init__(self, shortcut: float, branch: float, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.factors = shortcut, branch
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        return self.factors[0] * self.drop(shortcut) + self.factors[1] * branch


class Gated(nn.Module):
    """Figure 2 (c) and (d): the shortcut times 1 - g(x), and with `exclusive` the
    branch times g(x), g = sigmoid(1x1 convolution).
    """

    def __init__(self, in_chans: int, out_chans: int, stride: int, exclusive: bool) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.gate = nn.Conv2d(in_chans, out_chans, 1, stride)

    def forward(self, x: Tensor, shortcut: Tensor, branch: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))  # (N, out_chans, H / stride, W / stride)
        return (1 - gate) * shortcut + (gate * branch if self.exclusive else branch)


def make_branch(
    in_chans: int,
    out_chans: int,
    stride: int,
    *,
    kernels: Sequence[int],
    strided: int,
    order: Order,
) -> nn.Sequential:
    """The convolutions of a unit, of which number `strided` has the stride, and what
    stands between and after them.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    last = len(kernels) - 1
    for i, kernel in enumerate(kernels):
        width = out_chans // 4 if len(kernels) == 3 and i < last else out_chans
        layers[f"conv{i + 1}"] = conv(in_chans, width, kernel, stride if i == strided else 1)
        layers |= activation(order.between if i < last else order.after, width, i + 1)
        in_chans = width
    return nn.Sequential(layers)


class Unit(nn.Module):
    """A residual unit: (N, C, H, W) to (N, out_chans, H / stride, W / stride).

    `shared`: `before` stands before the split. `join`: how the unit's input, shortcut
    and branch meet; None: the plain addition.
    """

    def __init__(
        self,
        *,
        before: nn.Module,
        branch: nn.Module,
        shortcut: nn.Module,
        join: nn.Module | None,
        after: nn.Module,
        shared: bool,
    ) -> None:
        super().__init__()
        self.before = before
        self.branch = branch
        self.shortcut = shortcut
        self.join = join
        self.after = after
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        active = self.before(x)
        if self.shared:
            x = active
        branch, shortcut = self.branch(active), self.shortcut(x)
        total = branch + shortcut if self.join is None else self.join(x, shortcut, branch)
        return self.after(total)


class PreActResNet(Classifier):
    """Pre-activation ResNet. `blocks`: units per stage. Input (N, in_chans, H, W) of
    any size.

    `unit`: "basic", "bottleneck" or "single". `order`: a key of `ORDERS` (Figure 4).
    `shortcut`: option "A", "B" or "C" of ResNet. `join`: how shortcut and branch meet
    (Figure 2): "add", "scaled" by `scale`, gated ("exclusive", "shortcut") with
    `gate_bias` the gates' first bias, or "dropout". `stride_in`: a bottleneck's strided
    convolution, "1x1" or "3x3". `stem`: "imagenet" or "cifar".
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        unit: str = "basic",
        order: str = "full",
        shortcut: str = "B",
        join: str = "add",
        scale: tuple[float, float] = (0.5, 0.5),
        gate_bias: float = -6.0,
        stride_in: str = "1x1",
        stem: str = "imagenet",
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("PreActResNet", "unit", unit, UNITS)
        check_choice("PreActResNet", "order", order, ORDERS)
        check_choice("PreActResNet", "shortcut", shortcut, "ABC")
        check_choice("PreActResNet", "join", join, JOINS)
        check_choice("PreActResNet", "stride_in", stride_in, ("1x1", "3x3"))
        self.gate_bias = gate_bias
        places = ORDERS[order]
        strided = 1 if unit == "bottleneck" and stride_in == "3x3" else 0

        def meet(in_chans: int, out_chans: int, stride: int) -> nn.Module | None:
            if join in ("exclusive", "shortcut"):
                return Gated(in_chans, out_chans, stride, join == "exclusive")
            if join == "scaled":
                return Scaled(*scale)
            return Scaled(0.5, 1, drop_rate=0.5) if join == "dropout" else None

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            branch = make_branch(
                in_chans, out_chans, stride, kernels=UNITS[unit], strided=strided, order=places
            )
            norm = "bn" in places.after
            return Unit(
                before=nn.Sequential(activation(places.before, in_chans)),
                branch=branch,
                shortcut=make_shortcut(shortcut, in_chans, out_chans, stride, norm=norm),
                join=meet(in_chans, out_chans, stride),
                after=nn.Sequential(activation(places.sum, out_chans)),
                shared=stride > 1 or in_chans != out_chans,
            )

        imagenet = stem == "imagenet"
        width = 64 if imagenet else 16
        first = 4 * width if unit == "bottleneck" else width  # channels of the first stage
        kinds = "bn relu" if imagenet else places.stem
        add_stem(self, stem, width, norm="bn" in kinds, relu="relu" in kinds)  # as ResNet's
        channels = add_stages(self, stem, blocks, first, block=block)
        units = (module for module in self.features.modules() if isinstance(module, Unit))
        next(units).shared = True  # appendix
        self.neck = global_pool(activation(places.before, channels))  # (N, channels)
        self.head_hidden_size = channels
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module)
        if isinstance(module, Gated):
            init.constant_(module.gate.bias, self.gate_bias)


def row(
    *,
    blocks: tuple[int, ...],
    unit: str = "basic",
    params: int,
    macs: int,
    errors: tuple[tuple[str, float, float], ...] = (),
    note: str = "",
) -> Variant:
    """An ImageNet net with its `errors` (Table 5): augmentation, top-1, top-5."""
    results: list[Result] = []
    for augmentation, top1, top5 in errors:
        protocol = f"single network, single crop of 320, trained with {augmentation}"
        results += error_rates(top1=top1, top5=top5, protocol=protocol, source="Table 5")
    channels, layers = (256, 3) if unit == "bottleneck" else (64, 2)
    printed = residual_outputs("ResNet paper, Table 1", "imagenet", channels=channels)
    return Variant(
        model_args={"blocks": blocks, "unit": unit},
        claims=Claims(params, macs, printed),
        depth=2 + sum(blocks) * layers,
        results=tuple(results),
        tiny={"blocks": (2, 1, 1, 1)},
        note=note,
    )


def cifar(
    *,
    depth: int,
    unit: str,
    shortcut: str = "B",
    params: int,
    macs: int,
    printed: PrintedFigure,
    results: tuple[Result, ...],
) -> Variant:
    """A CIFAR-10 net with its `printed` parameters and its errors."""
    n, channels = ((depth - 2) // 9, 64) if unit == "bottleneck" else ((depth - 2) // 6, 16)
    outputs = residual_outputs("ResNet paper, section 4.2", "cifar", channels=channels)
    return Variant(
        model_args={
            "blocks": (n, n, n),
            "unit": unit,
            "shortcut": shortcut,
            "stem": "cifar",
            "num_classes": 10,
        },
        claims=Claims(params, macs, (PrintedFigure("depth", depth, "Table 3"), printed, *outputs)),
        depth=depth,
        inputs=(ImageInput((3, 32, 32), mean=CIFAR10_MEAN, std=CIFAR10_STD),),
        results=results,
        tiny={"blocks": (2, 1, 1)},
    )


def error(
    value: float, source: str = "Table 3", protocol: str = "median of 5 runs"
) -> tuple[Result, ...]:
    return error_rates(top1=value, data=CIFAR10_TEST, protocol=protocol, source=source)


SMALL = PrintedFigure("params", 1.7e6, "text", resolution=1e5)
WITHOUT = "that is without the scales and shifts of the batch norms"
LARGE = PrintedFigure("params", 10.2e6, "text", resolution=1e5, reason=WITHOUT)
OTHER = "at a depth that the paper does not have"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Identity Mappings in Deep Residual Networks",
        authors="K. He, X. Zhang, S. Ren, J. Sun",
        year=2016,
        venue="ECCV",
        arxiv="1603.05027",
        doi="10.1007/978-3-319-46493-0_38",
    ),
    build=PreActResNet,
    variants={
        # blocks; exact counts; Table 5: augmentation, top-1 and top-5 error in %
        "preresnet18": row(blocks=(2, 2, 2, 2), params=11_687_848, macs=1_814_073_344, note=OTHER),
        "preresnet34": row(blocks=(3, 4, 6, 3), params=21_796_008, macs=3_663_761_408, note=OTHER),
        "preresnet50": row(blocks=(3, 4, 6, 3), unit="bottleneck", params=25_549_480, macs=3_857_973_248, note=OTHER),
        "preresnet101": row(blocks=(3, 4, 23, 3), unit="bottleneck", params=44_541_608, macs=7_570_194_432, note=OTHER),
        "preresnet152": row(
            blocks=(3, 8, 36, 3), unit="bottleneck", params=60_185_256, macs=11_282_415_616,
            errors=(("scale", 21.1, 5.5),),
        ),
        "preresnet200": row(
            blocks=(3, 24, 36, 3), unit="bottleneck", params=64_666_280, macs=14_776_270_848,
            errors=(("scale", 20.7, 5.3), ("scale and aspect", 20.1, 4.8)),
        ),
        # depth; exact counts; printed parameters; Tables 3 and 4: error in %
        "preresnet110_cifar10": cifar(
            depth=110, unit="basic", shortcut="A", params=1_727_962, macs=252_887_680, printed=SMALL, results=error(6.37),
        ),
        "preresnet164_cifar10": cifar(
            depth=164, unit="bottleneck", params=1_703_258, macs=244_500_992, printed=SMALL, results=error(5.46),
        ),
        "preresnet1001_cifar10": cifar(
            depth=1001, unit="bottleneck", params=10_327_706, macs=1_487_849_984, printed=LARGE,
            results=(*error(4.92), *error(4.62, "Table 4", "median of 5 runs, batches of 64")),
        ),
    },
)
