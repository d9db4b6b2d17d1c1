"""Highway networks: layers that learn how much of their input to transform and how much
to carry on unchanged.

R. K. Srivastava, K. Greff, J. Schmidhuber. Training Very Deep Networks. NIPS 2015,
arXiv:1507.06228; first reported as Highway Networks, ICML 2015 deep learning workshop,
arXiv:1505.00387. Layer: section 2; fully connected depth study: section 3.1; MNIST:
Table 1; CIFAR: Tables 2 and 3.

highway_mnist16 and highway_mnist32 are the 10-layer networks of Table 1, of width 16
and 32. highway19_cifar10 is the 19-layer network of Table 3, which is Highway B
("Highway 2" of the first report) with a 1x1 convolution and the mean in place of
FitNet's fully connected layer. What the paper leaves open of their layers is as in the
authors' released definitions. highway_fc is a network of the depth study, 50 units
wide; `highways=(n,)` makes it n + 1 layers deep (the study: n = 9, 19, 49, 99), and
`widths=(71,), gated=False` is its plain counterpart.

Readings and departures
- A layer cannot change the width: where it changes, and at the input, stands a plain
  layer.
- A fully connected layer is a convolution over one position: 28x28 first, then 1x1.
- Pools round up, as Caffe's do: 24, 12, 6, 3.
- Initialisation: Glorot, biases 0; the released CIFAR network draws its first
  convolution from a Gaussian. Gates start at -1 (MNIST) and -2 (CIFAR), as released; in
  the study they were searched in -1 .. -10, and -4, with which 100 layers learn too, is
  our choice.
- Images of other sizes are averaged to the 3x3 (MNIST) or 1x1 (CIFAR) positions that
  the head takes; 28 and 32 are not changed by it.
- CIFAR images are normalised by ImageNet's mean and standard deviation; the paper
  normalises each image's contrast.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.figures import CIFAR10_TEST, error_rates, halved, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.layers.neck import global_pool
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def plain(
    in_chans: int, out_chans: int, kernel_size: int, *, padding: int, activation: str
) -> nn.Module:
    """A layer without a gate: (N, in_chans, H, W) -> (N, out_chans, H', W')."""
    conv = nn.Conv2d(in_chans, out_chans, kernel_size, padding=padding)
    return nn.Sequential(OrderedDict(conv=conv, act=ACTIVATIONS[activation]()))


class HighwayLayer(nn.Module):
    """y = H(x) T(x) + x (1 - T(x)), section 2: (N, C, H, W) -> (N, C, H, W).

    `transform` H is a convolution with activation, the gate T one with a sigmoid; the
    carry gate is 1 - T.
    """

    def __init__(self, channels: int, kernel_size: int, activation: str) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.gate = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.transform(x))
        t = torch.sigmoid(self.gate(x))
        return h * t + x * (1 - t)


class Highway(Classifier):
    """Highway network: stages of highway layers, each `widths` wide, `highways` many,
    and followed by a max pool of that size (0: none).

    Input (N, in_chans, H, W). `first`: kernel and padding of the first, plain layer;
    `kernel_size` of all others; `last`: channels of a 1x1 convolution at the end (0:
    none); `map_size`: side of the map that the head takes; `gate_bias`: where the
    gates' biases start; `gated=False`: plain layers throughout; `drop_rate`: of the
    input and after each stage, or one rate for all. Raises InputError for an unknown
    `activation` ("relu", "tanh") and for rates that do not fit.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        highways: tuple[int, ...],
        pools: tuple[int, ...],
        first: tuple[int, int],
        kernel_size: int = 3,
        last: int = 0,
        map_size: int = 1,
        gate_bias: float = -2.0,
        gated: bool = True,
        activation: str = "relu",
        num_classes: int = 10,
        in_chans: int = 3,
        drop_rate: float | tuple[float, ...] = 0.0,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("Highway", "activation", activation, ACTIVATIONS)
        if isinstance(drop_rate, (int, float)):
            drop_rate = (drop_rate,) * (len(widths) + 1)
        if len(drop_rate) != len(widths) + 1:
            raise InputError(
                f"Highway: drop_rate={drop_rate}: expected {len(widths) + 1} rates for "
                f"{len(widths)} stages, or one for all"
            )
        self.gate_bias = gate_bias
        # Fully connected, the first layer takes the whole image.
        reduction = first[0] if kernel_size == 1 else 1
        for number, (width, count, pool) in enumerate(zip(widths, highways, pools, strict=True), 1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            layers["drop"] = nn.Dropout(drop_rate[number - 1])
            if number == 1 or width != in_chans:
                kernel, padding = first if number == 1 else (kernel_size, kernel_size // 2)
                layers["plain"] = plain(
                    in_chans, width, kernel, padding=padding, activation=activation
                )
            in_chans = width
            for i in range(1, count + 1):
                if gated:
                    layers[f"layer{i}"] = HighwayLayer(width, kernel_size, activation)
                else:
                    padding = kernel_size // 2
                    layers[f"layer{i}"] = plain(
                        width, width, kernel_size, padding=padding, activation=activation
                    )
            if pool:
                layers["pool"] = nn.MaxPool2d(pool, 2, ceil_mode=True)
                reduction *= 2
            stage = nn.Sequential(layers)  # (N, width, about H / reduction, W / reduction)
            self.add_stage(f"stage{number}", stage, width, reduction)
        before: dict[str, nn.Module] = {}
        if last:  # (N, last, H', W')
            before["last"] = plain(in_chans, last, 1, padding=0, activation=activation)
            in_chans = last
        self.neck = global_pool(before, size=map_size, drop_rate=drop_rate[-1])
        self.head_hidden_size = in_chans * map_size**2
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.glorot_uniform_(module.weight)
            init.constant_(module.bias, self.gate_bias if name.endswith(".gate") else 0)


def runs(
    *, best: float, mean: float, deviation: float, data: str, source: str
) -> tuple[Result, ...]:
    """Accuracies: the best of five runs, and their mean with its deviation."""
    best_run = error_rates(
        top1=best, data=data, protocol="best of 5 runs", source=source, metric="accuracy"
    )
    source = f"{source}, ± {deviation}"
    return best_run + error_rates(
        top1=mean, data=data, protocol="mean of 5 runs", source=source, metric="accuracy"
    )


def mnist(
    *,
    width: int,
    params: int,
    macs: int,
    thousands: int,
    best: float,
    mean: float,
    deviation: float,
) -> Variant:
    """A network of Table 1 with its parameters in `thousands`."""
    names = ("stage1", "stage2", "stage3")
    printed = (
        PrintedFigure("params", thousands * 1e3, "Table 1", resolution=1e3),
        PrintedFigure("depth", 10, "Table 1"),
        *stage_outputs("released definition", halved(names, (width,) * 3, side=12)),
    )
    return Variant(
        model_args={
            "widths": (width,) * 3,
            "highways": (2, 3, 3),
            "pools": (3, 3, 2),
            "first": (5, 0),
            "map_size": 3,
            "gate_bias": -1.0,
            "in_chans": 1,
            "drop_rate": (0.2, 0.3, 0.4, 0.5),
        },
        claims=Claims(params, macs, printed),
        depth=10,
        inputs=(ImageInput((1, 28, 28), min_size=8, mean=(0.0,), std=(256 / 255,)),),
        results=runs(
            best=best, mean=mean, deviation=deviation, data="MNIST test", source="Table 1"
        ),
    )


HIGHWAY_B = (
    PrintedFigure("params", 2.3e6, "Table 2, Highway B", resolution=1e5),
    PrintedFigure("depth", 19, "Table 2"),
    *stage_outputs(
        "released definition", {"stage1": (32, 16, 16), "stage2": (80, 8, 8), "stage3": (128, 8, 8)}
    ),
    PrintedFigure("output", (100, 8, 8), "released definition", module="neck.last"),
)
FC_DEPTH = PrintedFigure(
    "depth", 10, "3.1", reason="the paper counts the hidden layers, not the output"
)
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Training Very Deep Networks",
        authors="R. K. Srivastava, K. Greff, J. Schmidhuber",
        year=2015,
        venue="NIPS",
        arxiv="1507.06228",
    ),
    build=Highway,
    variants={
        # Table 1: width; exact counts; Table 1: thousands of parameters;
        # accuracy in %: the best and the mean of 5 runs, and its deviation
        "highway_mnist16": mnist(width=16, params=38_986, macs=8_028_576, thousands=39, best=99.43, mean=99.4, deviation=0.03),
        "highway_mnist32": mnist(width=32, params=151_690, macs=31_650_624, thousands=151, best=99.55, mean=99.54, deviation=0.02),
        "highway19_cifar10": Variant(
            model_args={
                "widths": (32, 80, 128),
                "highways": (4, 5, 5),
                "pools": (2, 2, 0),
                "first": (3, 1),
                "last": 100,
                "drop_rate": (0.2, 0.2, 0.2, 0.2),
            },
            claims=Claims(params=2_256_838, macs=330_826_728, printed=HIGHWAY_B),
            depth=19,
            inputs=(ImageInput((3, 32, 32)),),
            results=runs(best=92.40, mean=92.31, deviation=0.12, data=CIFAR10_TEST, source="Table 3"),
            note="Highway B with a 1x1 convolution and the mean instead of its fully connected layer",
        ),
        "highway_fc": Variant(
            model_args={
                "widths": (50,),
                "highways": (9,),
                "pools": (0,),
                "first": (28, 0),
                "kernel_size": 1,
                "gate_bias": -4.0,
                "in_chans": 1,
            },
            claims=Claims(params=85_660, macs=84_700, printed=(FC_DEPTH, *stage_outputs("3.1", {"stage1": (50, 1, 1)}))),
            depth=10,
            inputs=(ImageInput((1, 28, 28), min_size=28, fixed=True, mean=(0.0,), std=(1.0,)),),
            note="the fully connected network of the depth study; highways=(n,) for n + 1 layers",
        ),
    },
)
