"""LeNet-5, the convolutional network that read cheques, and the simplified one that is
taught today.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-Based Learning Applied to Document
Recognition. Proceedings of the IEEE 86(11), 1998, doi:10.1109/5.726791. Layers: section
II.B, Fig. 2 and Table I; loss: section II.C; activation and initialisation: appendix A.

lenet5 is the network of the paper: C3 sees S2 by Table I, sub-sampling has a
coefficient and a bias per map, and the output compares F6 with a fixed code per digit.
Its logits are minus the paper's penalties: the largest is the answer. Background is
-0.1, ink 1.175.

lenet5_modern is the CONV-POOL-CONV-POOL-FC-FC-FC of courses: every map sees all maps,
ReLU and max pooling (what most teach now; the fields `activation` and `pool` give the
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

from zoo.errors import InputError, note
from zoo.layers import init
from zoo.layers.classifier import Classifier
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant

TABLE_I = (  # a row per map of S2, a column per map of C3
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
    """Per map, coefficient times the sum (not the mean) of each 2x2 block, plus bias:
    (N, C, H, W) -> (N, C, H/2, W/2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        total = 4 * F.avg_pool2d(x, 2)  # (N, C, H/2, W/2)
        return self.coefficient[:, None, None] * total + self.bias[:, None, None]


class TableConv2d(nn.Module):
    """Each output map sees the input maps marked in its column of `table`: a grouped
    convolution per run of equally long columns.
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
            nn.Conv2d(sum(map(len, g)), len(g), kernel_size, groups=len(g)) for g in groups
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = x.unbind(1)
        gathered = [torch.stack([maps[i] for i in wires], 1) for wires in self.wires]
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
        return torch.tensor(
            [
                [2.0 * int(bit) - 1 for row in digit.split() for bit in f"{int(row, 16):07b}"]
                for digit in FIG_3
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None] - self.codes).square().sum(2)


ACTIVATIONS = {"scaled_tanh": ScaledTanh, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "relu": nn.ReLU}
CHOICES = {
    "c3": ("table", "full"),
    "pool": ("trainable", "mean", "max"),
    "c5": ("conv", "linear"),
    "output": ("rbf", "linear"),
}
CHOICES["activation"] = tuple(ACTIVATIONS)


class LeNet5(Classifier):
    """LeNet-5 (Fig. 2), layer by layer as its fields say; the rows of the table below
    are the paper's and today's.

    Input (N, in_chans, 32, 32), or (N, in_chans, 28, 28) with `padding=2` of C1. Raises
    InputError for a field's unknown value.
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
        for field, value in {
            "c3": c3,
            "pool": pool,
            "activation": activation,
            "c5": c5,
            "output": output,
        }.items():
            if value not in CHOICES[field]:
                raise InputError(f"{field}={value!r}: LeNet-5 knows {', '.join(CHOICES[field])}")
        self.activation, self.output = activation, output
        act = ACTIVATIONS[activation]

        def squashed(**layer: nn.Module) -> nn.Module:
            return nn.Sequential(OrderedDict(layer, act=act()))

        def subsampling(channels: int) -> nn.Module:
            if pool == "trainable":
                return squashed(pool=Subsampling(channels))
            return nn.AvgPool2d(2) if pool == "mean" else nn.MaxPool2d(2)

        self.add_stage(
            "c1", squashed(conv=nn.Conv2d(in_chans, 6, 5, padding=padding)), 6, 1
        )  # (N, 6, 28, 28)
        self.add_stage("s2", subsampling(6), 6, 2)  # (N, 6, 14, 14)
        self.add_stage(
            "c3",
            squashed(conv=TableConv2d(TABLE_I, 5) if c3 == "table" else nn.Conv2d(6, 16, 5)),
            16,
            2,
        )  # (N, 16, 10, 10)
        self.add_stage("s4", subsampling(16), 16, 4)  # (N, 16, 5, 5)
        neck: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        if c5 == "conv":
            self.add_stage("c5", squashed(conv=nn.Conv2d(16, 120, 5)), 120, 32)  # (N, 120, 1, 1)
        else:
            neck.update(c5=nn.Linear(16 * 5 * 5, 120), act5=act())  # (N, 120)
        neck.update(f6=nn.Linear(120, 84), act6=act())  # (N, 84)
        self.neck = nn.Sequential(neck)
        self.num_features = 84
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def make_head(self, num_classes: int) -> nn.Module:
        if self.output == "rbf" and num_classes == len(FIG_3):
            return RBF()
        if self.output == "rbf" and num_classes:
            note(
                f"LeNet-5 has codes for {len(FIG_3)} classes: with {num_classes} its output is a linear layer"
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
    for logits -y (N, K) and labels D (N,).
    """
    return F.cross_entropy(
        F.pad(logits, (0, 1), value=-j), labels
    )  # j is the penalty of one more, always wrong class


def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and accuracy of images (N, C, H, W) and labels (N,): eq. 9 with the codes,
    cross-entropy with a linear output.
    """
    images, labels = batch
    logits = model(images)
    head = getattr(model, "module", model).head  # .module: inside DistributedDataParallel
    loss = (
        discriminative_loss(logits, labels)
        if isinstance(head, RBF)
        else F.cross_entropy(logits, labels)
    )
    return loss, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}


def connections(*layers: str) -> Callable[[LeNet5], int]:
    """The paper's count for these layers (none: all): per output unit its inputs and
    its bias, and 84 per RBF unit.
    """

    def count(model: LeNet5) -> int:
        total = 0
        x = torch.empty(1, model.in_chans, 32, 32, device=next(model.parameters()).device)
        for name, part in [
            *model.features.named_children(),
            *model.neck.named_children(),
            ("head", model.head),
        ]:
            x = part(x)
            for module in part.modules() if name in layers or not layers else ():
                if isinstance(module, RBF):
                    total += module.codes.numel()
                elif isinstance(module, Subsampling):
                    total += (4 + 1) * x.numel()
                elif isinstance(module, (nn.Conv2d, nn.Linear)):
                    total += x[0, 0].numel() * sum(
                        p.numel() for p in module.parameters()
                    )  # each weight once per position
        return total

    return count


PARAMS = {
    "features.c1": 156,
    "features.s2": 12,
    "features.c3": 1_516,
    "features.s4": 32,
    "features.c5": 48_120,
    "neck.f6": 10_164,
}
CONNECTIONS = {"c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000}
OUTPUTS = ((6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,))
PRINTED = (
    Printed("params", 60_000, "II.B"),
    Printed(
        "depth",
        7,
        "II.B",
        reason="S2, S4 and the RBF count there, which are no convolutions or matrix products",
    ),
    Printed("connections", 340_908, "II.B", by=connections()),
    *(Printed("params", value, "II.B", module=layer) for layer, value in PARAMS.items()),
    *(
        Printed(f"connections of {layer.upper()}", value, "II.B", by=connections(layer))
        for layer, value in CONNECTIONS.items()
    ),
    *(
        Printed("output", value, "Fig. 2", module=layer)
        for layer, value in zip(PARAMS, OUTPUTS, strict=True)
    ),
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
            fields={"c3": "table", "pool": "trainable", "activation": "scaled_tanh", "c5": "conv", "output": "rbf", "padding": 0},
            claims=Claims(params=60_000, macs=325_680, printed=PRINTED),
            depth=7,
            input_size=(1, 32, 32),
            min_input=32,
            fixed_input=True,
            mean=(0.1 / 1.275,),  # background -0.1, ink 1.175
            std=(1 / 1.275,),
            results=(
                Result("test error %", 0.95, "MNIST test", "single network, 20 passes", "III"),
                Result("test error %", 0.8, "MNIST test", "single network, trained with distorted images too", "III"),
            ),
            note="the network of 1998",
        ),
        "lenet5_modern": Variant(
            fields={"c3": "full", "pool": "max", "activation": "relu", "c5": "linear", "output": "linear", "padding": 2},
            claims=Claims(params=61_706, macs=416_520),
            depth=5,
            input_size=(1, 28, 28),
            min_input=28,
            fixed_input=True,
            mean=(0.0,),
            std=(1.0,),
            note="CONV-POOL-CONV-POOL-FC-FC-FC as it is taught today",
        ),
    },
    step=step,
)
