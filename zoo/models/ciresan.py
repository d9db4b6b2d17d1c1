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

from zoo.figures import stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.spec import Claims, Family, ImageInput, Paper, Result, Variant

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
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            layers["flatten"] = nn.Flatten()  # (N, inputs)
            layers["linear"] = nn.Linear(inputs, width)  # (N, width)
            layers["act"] = ScaledTanh()
            layers["maps"] = nn.Unflatten(1, (width, 1, 1))  # (N, width, 1, 1)
            self.add_stage(f"fc{number}", nn.Sequential(layers), width, SIDE)
            inputs = width
        self.head_hidden_size = inputs
        self.neck = nn.Flatten()
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.uniform_(module.weight, 0.05)
            init.uniform_(module.bias, 0.05)


def row(
    *, widths: tuple[int, ...], params: int, macs: int, note: str, results: tuple[Result, ...] = ()
) -> Variant:
    """A row of Table 1."""
    outputs = {f"fc{i}": (width, 1, 1) for i, width in enumerate(widths, 1)}
    return Variant(
        model_args={"widths": widths},
        claims=Claims(params, macs, stage_outputs("Table 1", outputs)),
        depth=len(widths) + 1,
        inputs=(ImageInput((1, SIDE, SIDE), min_size=SIDE, fixed=True, mean=(0.5,), std=(0.5,)),),
        results=results,
        tiny={"widths": (60, 40)},
        note=note,
    )


BEST = Result(
    "test error %",
    0.35,
    data="MNIST test",
    protocol="single network, chosen on validation data, trained with deformed digits",
    source="abstract",
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
        # Table 1: architecture; exact counts
        "ciresan_mlp1": row(widths=(1000, 500), params=1_347_510, macs=1_346_000, note="1000-500-10"),
        "ciresan_mlp2": row(widths=(1500, 1000, 500), params=3_269_510, macs=3_266_500, note="1500-1000-500-10"),
        "ciresan_mlp3": row(widths=(2000, 1500, 1000, 500), params=6_692_010, macs=6_687_000, note="2000-1500-1000-500-10"),
        "ciresan_mlp4": row(
            widths=(2500, 2000, 1500, 1000, 500), params=12_115_010, macs=12_107_500, note="2500-2000-1500-1000-500-10", results=(BEST,),
        ),
        "ciresan_mlp5": row(widths=(1000,) * 9, params=8_860_010, macs=8_851_000, note="9 x 1000 - 10"),
    },
)
