"""LeNet-5, the convolutional network that read cheques, and the simplified one that is
taught today.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-Based Learning Applied to Document
Recognition. Proceedings of the IEEE 86(11), 1998, doi:10.1109/5.726791. Layers: section
II.B, Fig. 2 and Table I; loss: section II.C; activation and initialisation: appendix A.

lenet5 is the network of the paper: C3 is connected to S2 by Table I, sub-sampling has a
coefficient and a bias per channel, and the output compares F6 with a fixed code per
digit.
Its logits are minus the paper's penalties: the largest is the answer. Background is
-0.1, ink 1.175.

lenet5_modern is the CONV-POOL-CONV-POOL-FC-FC-FC of courses: full convolutions, ReLU
and max pooling (what most teach now; the arguments `activation` and `pool` give the
tanh and mean of older ones), a linear output with cross-entropy, 28x28 images in [0,
1], whose padding by 2 is then background, and Glorot's initialisation, as the paper's
is meant for tanh.

Readings and departures
- A bias is drawn as the unit's other weights, from U(±2.4 / F); F, the number of
  inputs, does not count it. The paper leaves both open.
- The codes are a public transcription of the bitmaps in Fig. 3, which is only a
  picture; as a buffer, they can be replaced.
- The paper prints no j for its loss (eq. 9): see J. It has ten codes: with other
  `num_classes` the output is linear, with cross-entropy.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import check_choice, warn
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

TABLE_I = (  # a row per channel of S2, a column per channel of C3
    "X   XXX  XXXX XX",
    "XX   XXX  XXXX X",
    "XXX   XXX  X XXX",
    " XXX  XXXX  X XX",
    "  XXX  XXXX XX X",
    "   XXX  XXXX XXX",
)
FIG_3 = (  # per digit its 12 rows of 7 pixels, the highest bit on the left, ink 1
    "3e 00 1c 36 63 63 63 63 36 1c 00 00",
    "0c 1c 3c 0c 0c 0c 0c 0c 0c 3f 00 00",
    "3e 00 3e 63 43 06 1c 30 60 7f 00 00",
    "7f 03 06 0c 1e 03 03 03 63 3e 00 00",
    "3e 00 00 33 33 73 63 63 67 3f 03 03",
    "3e 00 7f 60 60 3c 1e 03 63 3e 00 00",
    "1e 30 60 60 7e 73 63 63 73 3e 00 00",
    "7f 03 03 06 0c 0c 18 18 18 18 00 00",
    "3e 63 63 63 3e 63 63 63 63 3e 00 00",
    "3e 67 63 63 67 3f 03 03 06 3c 00 00",
)

# Eq. 9 is content with a sample when its own code is well within j of F6 and no other
# is. The nearest two codes are 48 apart: balls of squared radius 12 about the codes
# just touch, so F6 has to reach its digit's ball, and a wrong code pushes when F6 is in
# its ball. With a j above 84, the codes' distance from the origin, an F6 barely off
# zero is content, and less is learnt.
J = 12.0


class ScaledTanh(nn.Module):
    """f(a) = 1.7159 tanh(2a / 3), so that f(±1) = ±1 (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """Per channel, coefficient times the sum (not the mean) of each 2x2 block, plus
    bias: (N, C, H, W) -> (N, C, H/2, W/2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        total = 4 * F.avg_pool2d(x, 2)  # (N, C, H/2, W/2)
        return self.coefficient[:, None, None] * total + self.bias[:, None, None]


class TableConv2d(nn.Module):
    """Each output channel is connected to the input channels marked in its column of
    `table`: a grouped convolution per run of equally long columns.

    (N, rows of the table, H, W) to (N, columns, H - kernel_size + 1, ...).
    """

    def __init__(self, table: Sequence[str], kernel_size: int) -> None:
        super().__init__()
        columns = [
            [i for i, mark in enumerate(column) if mark == "X"]
            for column in zip(*table, strict=True)
        ]
        groups = [list(group) for _, group in groupby(columns, key=len)]
        self.wires = [[i for column in group for i in column] for group in groups]
        self.convs = nn.ModuleList(
            nn.Conv2d(sum(map(len, group)), len(group), kernel_size, groups=len(group))
            for group in groups
        )

    def forward(self, x: Tensor) -> Tensor:
        channels = x.unbind(1)
        gathered = [torch.stack([channels[i] for i in wires], 1) for wires in self.wires]
        return torch.cat([conv(part) for conv, part in zip(self.convs, gathered, strict=True)], 1)


class RBF(nn.Module):
    """Minus the squared Euclidean distance to a fixed code per class (eq. 7): (N, 84)
    -> (N, 10).
    """

    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", self.bitmaps())

    @staticmethod
    def bitmaps() -> Tensor:
        """The codes of Fig. 3, row after row: (10, 84) of ±1."""
        bits = ["".join(f"{int(row, 16):07b}" for row in digit.split()) for digit in FIG_3]
        return torch.tensor([[2.0 * int(bit) - 1 for bit in digit] for digit in bits])

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None] - self.codes).square().sum(2)


ACTIVATIONS = {"scaled_tanh": ScaledTanh, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "relu": nn.ReLU}


class LeNet5(Classifier):
    """LeNet-5 (Fig. 2), layer by layer as its arguments say; the rows of the table
    below are the paper's and today's.

    `c3`: "table" (Table I) or "full"; `pool`: "trainable" (sub-sampling), "mean" or
    "max"; `activation`: a key of `ACTIVATIONS`; `c5`: "conv" or "linear"; `output`:
    "rbf" or "linear"; `padding` of C1. Input (N, in_chans, 32, 32), or (N, in_chans,
    28, 28) with `padding=2`. Raises InputError for an unknown choice.
    """

    def __init__(
        self,
        c3: str,
        pool: str,
        activation: str,
        c5: str,
        output: str,
        padding: int,
        num_classes: int = 10,
        in_chans: int = 1,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("LeNet5", "c3", c3, ("table", "full"))
        check_choice("LeNet5", "pool", pool, ("trainable", "mean", "max"))
        check_choice("LeNet5", "activation", activation, ACTIVATIONS)
        check_choice("LeNet5", "c5", c5, ("conv", "linear"))
        check_choice("LeNet5", "output", output, ("rbf", "linear"))
        self.activation, self.output = activation, output
        act = ACTIVATIONS[activation]

        def squashed(**layer: nn.Module) -> nn.Module:
            return nn.Sequential(OrderedDict(layer, act=act()))

        def subsampling(channels: int) -> nn.Module:
            if pool == "trainable":
                return squashed(pool=Subsampling(channels))
            return nn.AvgPool2d(2) if pool == "mean" else nn.MaxPool2d(2)

        c1 = squashed(conv=nn.Conv2d(in_chans, 6, 5, padding=padding))
        table = TableConv2d(TABLE_I, 5) if c3 == "table" else nn.Conv2d(6, 16, 5)
        self.add_stage("c1", c1, 6, 1)  # (N, 6, 28, 28)
        self.add_stage("s2", subsampling(6), 6, 2)  # (N, 6, 14, 14)
        self.add_stage("c3", squashed(conv=table), 16, 2)  # (N, 16, 10, 10)
        self.add_stage("s4", subsampling(16), 16, 4)  # (N, 16, 5, 5)
        neck: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        if c5 == "conv":
            self.add_stage("c5", squashed(conv=nn.Conv2d(16, 120, 5)), 120, 32)  # (N, 120, 1, 1)
        else:
            neck.update(c5=nn.Linear(16 * 5 * 5, 120), act5=act())  # (N, 120)
        neck.update(f6=nn.Linear(120, 84), act6=act())  # (N, 84)
        self.neck = nn.Sequential(neck)
        self.head_hidden_size = 84
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def make_head(self, num_classes: int) -> nn.Module:
        codes = self.output == "rbf" and self.head_hidden_size == 84  # else layers were pruned
        if codes and num_classes == len(FIG_3):
            return RBF()
        if codes and num_classes:
            warn(
                f"LeNet-5 has codes for {len(FIG_3)} classes: with {num_classes} its output is a "
                "linear layer"
            )
        return super().make_head(num_classes)

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, RBF) and not module.codes.is_meta:
            module.codes.copy_(module.bitmaps())
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and self.activation == "relu":
            init.glorot_uniform_(module.weight)
            init.constant_(module.bias, 0)
        elif isinstance(module, (Subsampling, nn.Conv2d, nn.Linear)):  # appendix A
            inputs = 4 if isinstance(module, Subsampling) else init.fans(module.weight)[0]
            for parameter in module.parameters():
                init.uniform_(parameter, 2.4 / inputs)


def discriminative_loss(logits: Tensor, labels: Tensor, j: float = J) -> Tensor:
    """Eq. 9, the mean over the batch of y_D + log(exp(-j) + sum over i of exp(-y_i)),
    for logits -y (N, K) and labels D (N,), or shares of the classes (N, K).
    """
    extended = F.pad(logits, (0, 1), value=-j)  # j: the penalty of one more, always wrong class
    labels = F.pad(labels, (0, 1)) if labels.ndim == 2 else labels
    return F.cross_entropy(extended, labels)


def loss(outputs: Tensor, batch: tuple[Tensor, Tensor], model: nn.Module) -> Tensor:
    """Of images (N, C, H, W) and labels (N,): eq. 9 with the codes, cross-entropy with
    a linear output.
    """
    labels = batch[1]
    if isinstance(model.head, RBF):
        return discriminative_loss(outputs, labels)
    return F.cross_entropy(outputs, labels)


def connections(*layers: str) -> Callable[[LeNet5], int]:
    """The paper's count for these layers (none: all): per output unit its inputs and
    its bias, and 84 per RBF unit.
    """

    def count(model: LeNet5) -> int:
        total = 0
        x = torch.empty(1, model.in_chans, 32, 32, device=next(model.parameters()).device)
        parts = dict([*model.features.named_children(), *model.neck.named_children()])
        for name, part in {**parts, "head": model.head}.items():
            x = part(x)
            for module in part.modules() if name in layers or not layers else ():
                if isinstance(module, RBF):
                    total += module.codes.numel()
                elif isinstance(module, Subsampling):
                    total += (4 + 1) * x.numel()
                elif isinstance(module, (nn.Conv2d, nn.Linear)):
                    weights = sum(parameter.numel() for parameter in module.parameters())
                    total += x[0, 0].numel() * weights  # each once per position
        return total

    return count


FIG_2 = {  # outputs
    "features.c1": (6, 28, 28),
    "features.s2": (6, 14, 14),
    "features.c3": (16, 10, 10),
    "features.s4": (16, 5, 5),
    "features.c5": (120, 1, 1),
    "neck.f6": (84,),
}
PARAMS = {  # section II.B
    "features.c1": 156,
    "features.s2": 12,
    "features.c3": 1_516,
    "features.s4": 32,
    "features.c5": 48_120,
    "neck.f6": 10_164,
}
CONNECTIONS = {"c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000}  # section II.B
NOT_COUNTED = "S2, S4 and the RBF count there, which are no convolutions or matrix products"


def paper_figures() -> tuple[PrintedFigure, ...]:
    """What the paper prints of lenet5."""
    return (
        PrintedFigure("params", 60_000, "II.B"),
        PrintedFigure("depth", 7, "II.B", reason=NOT_COUNTED),
        PrintedFigure("connections", 340_908, "II.B", compute=connections()),
        *(PrintedFigure("params", count, "II.B", module=path) for path, count in PARAMS.items()),
        *(
            PrintedFigure(
                f"connections of {layer.upper()}", count, "II.B", compute=connections(layer)
            )
            for layer, count in CONNECTIONS.items()
        ),
        *(PrintedFigure("output", shape, "Fig. 2", module=path) for path, shape in FIG_2.items()),
    )


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Gradient-Based Learning Applied to Document Recognition",
        authors="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner",
        year=1998,
        venue="Proceedings of the IEEE 86(11)",
        doi="10.1109/5.726791",
    ),
    build=LeNet5,
    variants={
        "lenet5": Variant(
            model_args={"c3": "table", "pool": "trainable", "activation": "scaled_tanh", "c5": "conv", "output": "rbf", "padding": 0},
            claims=Claims(params=60_000, macs=325_680, printed=paper_figures()),
            depth=7,
            inputs=(ImageInput((1, 32, 32), min_size=32, fixed=True, mean=(0.1 / 1.275,), std=(1 / 1.275,)),),
            results=(
                Result("test error %", 0.95, data="MNIST test", protocol="single network, 20 passes", source="III"),
                Result("test error %", 0.8, data="MNIST test", protocol="single network, trained with distorted images too", source="III"),
            ),
            note="the network of 1998",
        ),
        "lenet5_modern": Variant(
            model_args={"c3": "full", "pool": "max", "activation": "relu", "c5": "linear", "output": "linear", "padding": 2},
            claims=Claims(params=61_706, macs=416_520),
            depth=5,
            inputs=(ImageInput((1, 28, 28), min_size=28, fixed=True, mean=(0.0,), std=(1.0,)),),
            note="CONV-POOL-CONV-POOL-FC-FC-FC as it is taught today",
        ),
    },
    loss=loss,
)
