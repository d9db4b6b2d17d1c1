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
- A gate is a 1x1 convolution to as many maps as the unit has, with the branch's stride.
  Dropout is not rescaled in training but halved in evaluation, as the paper gives it
  the expectation 0.5.
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
from zoo.layers import init
from zoo.layers.classifier import Classifier
from zoo.layers.residual import add_stages, add_stem, conv, init_he_, make_shortcut, pooling
from zoo.spec import CIFAR10_MEAN, CIFAR10_STD, Claims, Family, Paper, Printed, Result, Variant


class Order(NamedTuple):
    """Where a unit has its batch norms and ReLUs."""

    stem: str  # after the first convolution of the CIFAR-10 nets
    before: str  # before a unit's first convolution; once more after the last unit
    between: str  # between its convolutions
    after: str  # after its last convolution
    sum: str  # after the addition


ORDERS = {  # Figure 4 (a) to (e)
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
    return OrderedDict(
        (
            f"{kind}{number}",
            nn.BatchNorm2d(channels) if kind == "bn" else nn.ReLU(inplace="bn" in kinds),
        )
        for kind in kinds.split()
    )


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
    in_chans: int, out_chans: int, stride: int, kernels: Sequence[int], strided: int, order: Order
) -> nn.Sequential:
    """The convolutions of a unit, of which number `strided` has the stride, and what
    stands between and after them.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    last = len(kernels) - 1
    for i, kernel in enumerate(kernels):
        maps = out_chans // 4 if len(kernels) == 3 and i < last else out_chans
        layers[f"conv{i + 1}"] = conv(in_chans, maps, kernel, stride if i == strided else 1)
        layers |= activation(order.between if i < last else order.after, maps, i + 1)
        in_chans = maps
    return nn.Sequential(layers)


class Unit(nn.Module):
    """A residual unit: (N, C, H, W) to (N, out_chans, H / stride, W / stride).

    `shared`: `before` stands before the split. `join`: how the unit's input, shortcut
    and branch meet; None: the plain addition.
    """

    def __init__(
        self,
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
        return self.after(
            branch + shortcut if self.join is None else self.join(x, shortcut, branch)
        )


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
        choices = (
            ("unit", unit, UNITS),
            ("order", order, ORDERS),
            ("shortcut", shortcut, "ABC"),
            ("join", join, JOINS),
        )
        for field, value, known in (*choices, ("stride_in", stride_in, ("1x1", "3x3"))):
            check_choice("PreActResNet", field, value, known)
        self.gate_bias = gate_bias
        places = ORDERS[order]
        strided = 1 if unit == "bottleneck" and stride_in == "3x3" else 0

        def meet(in_chans: int, out_chans: int, stride: int) -> nn.Module | None:
            if join in ("exclusive", "shortcut"):
                return Gated(in_chans, out_chans, stride, join == "exclusive")
            return (
                Scaled(*scale)
                if join == "scaled"
                else Scaled(0.5, 1, drop_rate=0.5)
                if join == "dropout"
                else None
            )

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            return Unit(
                before=nn.Sequential(activation(places.before, in_chans)),
                branch=make_branch(in_chans, out_chans, stride, UNITS[unit], strided, places),
                shortcut=make_shortcut(
                    shortcut, in_chans, out_chans, stride, norm="bn" in places.after
                ),
                join=meet(in_chans, out_chans, stride),
                after=nn.Sequential(activation(places.sum, out_chans)),
                shared=stride > 1 or in_chans != out_chans,
            )

        imagenet = stem == "imagenet"
        width = 64 if imagenet else 16
        kinds = "bn relu" if imagenet else places.stem
        add_stem(
            self, stem, width, norm="bn" in kinds, relu="relu" in kinds
        )  # (N, width, H / 2, W / 2), CIFAR: (N, width, H, W)
        self.num_features = add_stages(
            self, stem, blocks, 4 * width if unit == "bottleneck" else width, block
        )
        next(
            module for module in self.features.modules() if isinstance(module, Unit)
        ).shared = True  # appendix
        self.neck = nn.Sequential(
            activation(places.before, self.num_features) | OrderedDict(pooling().named_children())
        )
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module)
        if isinstance(module, Gated):
            init.constant_(module.gate.bias, self.gate_bias)


def row(
    blocks, params, macs, errors=(), note="at a depth that the paper does not have", **fields
) -> Variant:  # type: ignore[no-untyped-def]
    """An ImageNet net with its errors (Table 5: augmentation, top-1, top-5 at
    320x320).
    """
    bottleneck = fields.get("unit") == "bottleneck"
    depth = 2 + sum(blocks) * (3 if bottleneck else 2)
    outputs = [
        (f"conv{i + 2}_x", ((256 if bottleneck else 64) << i, 56 >> i, 56 >> i)) for i in range(4)
    ]
    printed = (
        Printed("output", output, "ResNet paper, Table 1", module=f"features.{stage}")
        for stage, output in outputs
    )
    return Variant(
        fields={"blocks": blocks, **fields},
        claims=Claims(params, macs, tuple(printed)),
        depth=depth,
        results=tuple(
            Result(
                f"top-{k} error %",
                value,
                "ILSVRC-2012 val",
                f"single network, single crop of 320, trained with {augmentation}",
                "Table 5",
            )
            for augmentation, *values in errors
            for k, value in zip((1, 5), values, strict=True)
        ),
        note=note,
    )


def cifar(depth, params, macs, printed, error, error64=0.0, **fields) -> Variant:  # type: ignore[no-untyped-def]
    """A CIFAR-10 net with its error (Tables 2 and 3), and that of training with batches
    of 64 (Table 4).
    """
    n, maps = ((depth - 2) // 9, 64) if fields["unit"] == "bottleneck" else ((depth - 2) // 6, 16)
    outputs = [(f"stage{i + 1}", (maps << i, 32 >> i, 32 >> i)) for i in range(3)]
    figures = [
        Printed("output", output, "ResNet paper, section 4.2", module=f"features.{stage}")
        for stage, output in outputs
    ]
    errors = [("median of 5 runs", error, "Table 3")]
    errors += [("median of 5 runs, batches of 64", error64, "Table 4")] if error64 else []
    return Variant(
        fields={"blocks": (n, n, n), "stem": "cifar", "num_classes": 10, **fields},
        claims=Claims(params, macs, (Printed("depth", depth, "Table 3"), printed, *figures)),
        depth=depth,
        input_size=(3, 32, 32),
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        results=tuple(
            Result("top-1 error %", error, "CIFAR-10 test", protocol, where)
            for protocol, error, where in errors
        ),
    )


SMALL = Printed("params", 1.7e6, "text", unit=1e5)
LARGE = Printed(
    "params",
    10.2e6,
    "text",
    unit=1e5,
    reason="that is without the scales and shifts of the batch norms",
)
BOTTLENECK = {"unit": "bottleneck"}
PAPER = {"unit": "bottleneck", "note": ""}
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
        "preresnet18": row((2, 2, 2, 2), 11_687_848, 1_814_073_344),
        "preresnet34": row((3, 4, 6, 3), 21_796_008, 3_663_761_408),
        "preresnet50": row((3, 4, 6, 3), 25_549_480, 3_857_973_248, **BOTTLENECK),
        "preresnet101": row((3, 4, 23, 3), 44_541_608, 7_570_194_432, **BOTTLENECK),
        "preresnet152": row((3, 8, 36, 3), 60_185_256, 11_282_415_616, [("scale", 21.1, 5.5)], **PAPER),
        "preresnet200": row((3, 24, 36, 3), 64_666_280, 14_776_270_848, [("scale", 20.7, 5.3), ("scale and aspect", 20.1, 4.8)], **PAPER),
        "preresnet110_cifar10": cifar(110, 1_727_962, 252_887_680, SMALL, 6.37, unit="basic", shortcut="A"),
        "preresnet164_cifar10": cifar(164, 1_703_258, 244_500_992, SMALL, 5.46, **BOTTLENECK),
        "preresnet1001_cifar10": cifar(1001, 10_327_706, 1_487_849_984, LARGE, 4.92, 4.62, **BOTTLENECK),
    },
)
