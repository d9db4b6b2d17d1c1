"""OverFeat: one network for classification at every place of an image, as its fully
connected layers are convolutions.

P. Sermanet, D. Eigen, X. Zhang, M. Mathieu, R. Fergus, Y. LeCun. OverFeat: Integrated
Recognition, Localization and Detection using Convolutional Networks. ICLR 2014,
arXiv:1312.6229. Networks: Tables 1 and 3, section 3.2; dense multi-scale classification
with offset pooling: 3.3, Table 5; results: Tables 2 and 4.

A larger image than the window gives a map of class scores: `forward_map`, coarse with
one score per step of the last pool, or fine with one per pixel before it. `forward`
takes the spatial maximum of the coarse map, `forward_scales` is the paper's whole
evaluation.

The last feature map is the unpooled one, as in section 3.3: the last pool belongs to
the neck.

Readings and departures
- Layer sizes are those of the released weights (1024 maps in the last convolution,
  where the caption of Table 5 says 256).
- 3x3 convolutions have a border of zeros (`padding=1`), so a score of the map is that
  of the crop in its place only nearly: inside the image the crop's border of zeros is
  picture. docs/overfeat_dense.md measures the difference; `padding=0` has none, and a
  larger window.
- Scores are averaged over scales and flips as they come, before any softmax.
- Biases start at 0, weights at N(0, 0.01²); ReLU is at 0, where the released program
  has 1e-6.
"""

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.layers import init
from zoo.layers.classifier import Classifier
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant


class OverFeat(Classifier):
    """OverFeat (Tables 1 and 3). Input (N, in_chans, H, W) with H, W of at least
    `window`: 231 fast, 221 accurate.

    `layers`: the tables' columns channels, kernel, stride and pool (0: none) of the
    convolutional layers; `hidden`: the widths of the hidden fully connected layers, the
    first of which sees `side` x `side` pixels; `padding` of the 3x3 convolutions.

    Attributes: `window`, the side of the crop that gives one score per class; `step`,
    the pixels between neighbouring scores of the coarse map; `pool`, the size of the
    last pool.
    """

    def __init__(
        self,
        layers: tuple[tuple[int, int, int, int], ...],
        hidden: tuple[int, int],
        side: int,
        padding: int = 1,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
    ) -> None:
        super().__init__(num_classes, in_chans)
        reduction = 1
        geometry = []  # kernel, stride and border of convolutions and pools
        for number, (channels, kernel, stride, pool) in enumerate(layers, 1):
            border = padding if kernel == 3 else 0
            stage: OrderedDict[str, nn.Module] = OrderedDict(
                conv=nn.Conv2d(in_chans, channels, kernel, stride, border),
                relu=nn.ReLU(inplace=True),
            )
            reduction *= stride
            geometry += (
                [(kernel, stride, border), (pool, pool, 0)] if pool else [(kernel, stride, border)]
            )
            if pool and number < len(layers):
                stage["pool"] = nn.MaxPool2d(pool)
                reduction *= pool
            self.add_stage(
                f"stage{number}", nn.Sequential(stage), channels, reduction
            )  # (N, channels, about H / reduction, ...)
            in_chans = channels
        first, second = len(layers) + 1, len(layers) + 2
        self.num_features = hidden[1]
        self.neck = nn.Sequential(
            OrderedDict[str, nn.Module](
                [
                    ("pool", nn.MaxPool2d(layers[-1][3])),  # (N, 1024, side, side) of one window
                    (f"fc{first}", nn.Conv2d(in_chans, hidden[0], side)),  # (N, hidden[0], 1, 1)
                    (f"relu{first}", nn.ReLU(inplace=True)),
                    (f"drop{first}", nn.Dropout(drop_rate)),
                    (f"fc{second}", nn.Conv2d(*hidden, 1)),  # (N, 4096, 1, 1)
                    (f"relu{second}", nn.ReLU(inplace=True)),
                    (f"drop{second}", nn.Dropout(drop_rate)),
                ]
            )
        )
        self.head = self.make_head(num_classes)  # (N, num_classes, 1, 1)
        self.pool = layers[-1][3]
        self.side = side
        self.window, self.step = side, 1
        for kernel, stride, border in reversed(geometry):
            self.window = (self.window - 1) * stride + kernel - 2 * border
            self.step *= stride
        self.init_weights()

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.num_features, num_classes, 1) if num_classes else nn.Identity()

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        if x.shape[2] < self.window or x.shape[3] < self.window:
            raise InputError(
                f"this OverFeat takes images of {self.window}x{self.window} or larger, not {x.shape[2]}x{x.shape[3]}"
            )

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.neck(x)  # (N, 4096, H', W')
        x = x if pre_logits else self.head(x)
        return x.amax((2, 3))  # (N, num_classes) or (N, 4096)

    def forward_map(self, x: Tensor, fine: bool = False) -> Tensor:
        """Class scores (N, num_classes, H', W') of all windows of images (N, in_chans,
        H, W), `step` pixels apart.

        `fine`: offset pooling (section 3.3), the last pool begins at each of its pixels
        in turn, and the maps that this gives are interleaved: the windows lie `step` /
        `pool` pixels apart.
        """
        maps = self.forward_features(x)  # unpooled
        if not fine:
            return self.head(self.neck(maps))
        height, width = (pixels - self.pool * self.side + 1 for pixels in maps.shape[2:])
        scores = maps.new_empty(len(maps), self.num_classes or self.num_features, height, width)
        for dy in range(min(self.pool, height)):
            for dx in range(min(self.pool, width)):
                scores[:, :, dy :: self.pool, dx :: self.pool] = self.head(
                    self.neck(maps[:, :, dy:, dx:])
                )
        return scores

    def forward_scales(self, scales: Iterable[Tensor]) -> Tensor:
        """Class scores (N, num_classes) of the same images at several scales (N,
        in_chans, H, W) each (section 3.3).

        The spatial maximum of the fine map, averaged over the scales and over each
        image and its mirror image.
        """
        scores = [
            self.forward_map(view, fine=True).amax((2, 3))
            for x in scales
            for view in (x, x.flip(3))
        ]
        return torch.stack(scores).mean(0)

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=0.01)
            init.constant_(module.bias, 0)


TABLE_1 = ((96, 11, 4, 2), (256, 5, 1, 2), (512, 3, 1, 0), (1024, 3, 1, 0), (1024, 3, 1, 2))
TABLE_3 = (
    (96, 7, 2, 3),
    (256, 7, 1, 2),
    (512, 3, 1, 0),
    (512, 3, 1, 0),
    (1024, 3, 1, 0),
    (1024, 3, 1, 3),
)


def outputs(table: str, *shapes: tuple[int, int, int]) -> tuple[Printed, ...]:
    """The outputs of stage 2 and on, which are the table's inputs of the next layers,
    and of the last pool.
    """
    modules = [f"features.stage{number}" for number in range(2, len(shapes) + 1)] + ["neck.pool"]
    return tuple(
        Printed("output", shape, table, module=module)
        for module, shape in zip(modules, shapes, strict=True)
    )


def errors(data: str, protocol: str, where: str, *values: float) -> tuple[Result, ...]:
    """The top-1 and top-5 error, or the top-5 error alone."""
    kinds = ("top-1 error %", "top-5 error %")[-len(values) :]
    return tuple(
        Result(kind, value, data, protocol, where)
        for kind, value in zip(kinds, values, strict=True)
    )


def row(
    layers, hidden, side, window, step, params, macs, millions, table, printed, results
) -> Variant:  # type: ignore[no-untyped-def]
    """A network with what the paper prints: parameters in millions (Table 4), map sizes
    (Tables 1 and 3), window and step.
    """
    return Variant(
        fields={"layers": layers, "hidden": hidden, "side": side},
        claims=Claims(
            params,
            macs,
            printed=(
                Printed("params", millions * 1e6, "Table 4", unit=1e6),
                Printed("window", window, table, by=lambda model: model.window),
                Printed(
                    "step of the windows",
                    step,
                    "released program's readme",
                    by=lambda model: model.step,
                ),
                *printed,
            ),
        ),
        depth=len(layers) + 3,
        input_size=(3, window, window),
        min_input=window,
        mean=(118.380948 / 255,) * 3,
        std=(61.896913 / 255,) * 3,
        results=results,
    )


CITED = "Table 2, as cited in arXiv:1409.1556, Table 7"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks",
        authors="P. Sermanet, D. Eigen, X. Zhang, M. Mathieu, R. Fergus, Y. LeCun",
        year=2014,
        venue="ICLR",
        arxiv="1312.6229",
    ),
    build=OverFeat,
    variants={
        "overfeat_fast": row(
            TABLE_1,
            (3072, 4096),
            side=6,
            window=231,
            step=32,
            params=145_920_872,
            macs=2_801_403_904,
            millions=145,
            table="Table 1",
            printed=outputs("Table 1", (256, 12, 12), (512, 12, 12), (1024, 12, 12), (1024, 12, 12), (1024, 6, 6)),
            results=errors("ILSVRC-2013 test", "7 networks, in the competition", "section 3", 14.2),
        ),
        "overfeat_accurate": row(
            TABLE_3,
            (4096, 4096),
            side=5,
            window=221,
            step=36,
            params=144_656_488,
            macs=5_355_446_784,
            millions=144,
            table="Table 3",
            printed=outputs("Table 3", (256, 15, 15), (512, 15, 15), (512, 15, 15), (1024, 15, 15), (1024, 15, 15), (1024, 5, 5)),
            results=(
                *errors("ILSVRC-2012 val", "single network, 4 scales, fine", CITED, 35.7, 14.2),
                *errors("ILSVRC-2012 val", "7 networks, 4 scales, fine", CITED, 34.0, 13.2),
                *errors("ILSVRC-2013 test", "7 networks, after the competition", "section 3", 13.6),
            ),
        ),
    },
)
