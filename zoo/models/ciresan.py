"""Deep, big, simple multilayer perceptrons for handwritten digits: nothing but fully
connected layers.

D. C. Ciresan, U. Meier, L. M. Gambardella, J. Schmidhuber. Deep, Big, Simple Neural
Nets for Handwritten Digit Recognition. Neural Computation 22(12), 2010,
doi:10.1162/NECO_a_00052, arXiv:1003.0358. Networks: Table 1.

Input: digits of 28x28 with one more row and column of background, grey values in [-1,
1]. The millions of weights in Table 1 hold for these 29x29 = 841 inputs only, with the
biases, and are cut off after two decimals.

Each hidden layer is a stage: its output is a map of one pixel with a channel per unit.

Readings and departures
- Weights and biases start at U(±0.05), biases too, as Table 1 counts them among the
  weights.
- The outputs are ten logits for cross-entropy: the paper's last nonlinearity and its
  loss are not known here.
- `zoo.transforms` stretches digits to 29x29; `torch.nn.functional.pad(digits, (0, 1, 0,
  1), value=-1)` adds the row and column.
- The training set deformed anew in each epoch is a matter of the recipe, not of the
  network.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from zoo.layers import init
from zoo.layers.classifier import Classifier
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant

SIDE = 29


class ScaledTanh(nn.Module):
    """f(a) = 1.7159 tanh(0.6666 a)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(0.6666 * x)


class MLP(Classifier):
    """The multilayer perceptrons of Table 1; `widths`: the units of the hidden layers.
    Input (N, in_chans, 29, 29).
    """

    def __init__(self, widths: tuple[int, ...], num_classes: int = 10, in_chans: int = 1) -> None:
        super().__init__(num_classes, in_chans)
        inputs = in_chans * SIDE * SIDE
        for number, width in enumerate(widths, 1):
            layers: OrderedDict[str, nn.Module] = OrderedDict(
                flatten=nn.Flatten(),  # (N, inputs)
                linear=nn.Linear(inputs, width),  # (N, width)
                act=ScaledTanh(),
                maps=nn.Unflatten(1, (width, 1, 1)),  # (N, width, 1, 1)
            )
            self.add_stage(f"fc{number}", nn.Sequential(layers), width, SIDE)
            inputs = width
        self.num_features = inputs
        self.neck = nn.Flatten()
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.uniform_(module.weight, 0.05)
            init.uniform_(module.bias, 0.05)


def row(widths, params, macs, results=()) -> Variant:  # type: ignore[no-untyped-def]
    """A row of Table 1."""
    return Variant(
        fields={"widths": widths},
        claims=Claims(
            params,
            macs,
            tuple(
                Printed("output", (w, 1, 1), "Table 1", module=f"features.fc{i}")
                for i, w in enumerate(widths, 1)
            ),
        ),
        depth=len(widths) + 1,
        input_size=(1, SIDE, SIDE),
        min_input=SIDE,
        fixed_input=True,
        mean=(0.5,),
        std=(0.5,),
        results=results,
        note="-".join(map(str, (*widths, 10)))
        if len(set(widths)) > 1
        else f"{len(widths)} x {widths[0]} - 10",
    )


BEST = (
    Result(
        "test error %",
        0.35,
        "MNIST test",
        "single network, chosen on validation data, trained with deformed digits",
        "abstract",
    ),
)
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Deep, Big, Simple Neural Nets for Handwritten Digit Recognition",
        authors="D. C. Ciresan, U. Meier, L. M. Gambardella, J. Schmidhuber",
        year=2010,
        venue="Neural Computation 22(12)",
        arxiv="1003.0358",
        doi="10.1162/NECO_a_00052",
    ),
    build=MLP,
    variants={
        "ciresan_mlp1": row((1000, 500), 1_347_510, 1_346_000),
        "ciresan_mlp2": row((1500, 1000, 500), 3_269_510, 3_266_500),
        "ciresan_mlp3": row((2000, 1500, 1000, 500), 6_692_010, 6_687_000),
        "ciresan_mlp4": row((2500, 2000, 1500, 1000, 500), 12_115_010, 12_107_500, BEST),
        "ciresan_mlp5": row((1000,) * 9, 8_860_010, 8_851_000),
    },
)
