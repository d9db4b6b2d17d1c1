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
- Layer sizes are those of the released weights (1024 channels in the last convolution,
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

from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers import init
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant


class OverFeat(Classifier):
    """OverFeat (Tables 1 and 3). Input (N, in_chans, H, W) with H, W of at least
    `window`: 231 fast, 221 accurate.

    `layers`: the tables' columns channels, kernel, stride and pool (0: none) of the
    convolutional layers; `hidden`: the widths of the hidden fully connected layers, the
    first of which takes `side` x `side` pixels; `padding` of the 3x3 convolutions.

    Attributes: `window`, the side of the crop that gives one score per class; `step`,
    the pixels between neighbouring scores of the coarse map; `pool`, the size of the
    last pool.
    """

    own_pool = "max"

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
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            parts["conv"] = nn.Conv2d(in_chans, channels, kernel, stride, padding=border)
            parts["relu"] = nn.ReLU(inplace=True)
            reduction *= stride
            geometry.append((kernel, stride, border))
            if pool:
                geometry.append((pool, pool, 0))
            if pool and number < len(layers):
                parts["pool"] = nn.MaxPool2d(pool)
                reduction *= pool
            stage = nn.Sequential(parts)  # (N, channels, about H / reduction, W / reduction)
            self.add_stage(f"stage{number}", stage, channels, reduction)
            in_chans = channels
        neck: OrderedDict[str, nn.Module] = OrderedDict()
        neck["pool"] = nn.MaxPool2d(layers[-1][3])  # (N, 1024, side, side) of one window
        for number, width, kernel in zip((1, 2), hidden, (side, 1), strict=True):
            name = len(layers) + number
            neck[f"fc{name}"] = nn.Conv2d(in_chans, width, kernel)  # (N, width, 1, 1)
            neck[f"relu{name}"] = nn.ReLU(inplace=True)
            neck[f"drop{name}"] = nn.Dropout(drop_rate)
            in_chans = width
        self.neck = nn.Sequential(neck)
        self.head_hidden_size = in_chans
        self.head = self.make_head(num_classes)  # (N, num_classes, 1, 1)
        self.pool = layers[-1][3]
        self.side = side
        self.window, self.step = side, 1
        for kernel, stride, border in reversed(geometry):
            self.window = (self.window - 1) * stride + kernel - 2 * border
            self.step *= stride
        self.init_weights()

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.head_hidden_size, num_classes, 1) if num_classes else nn.Identity()

    def smallest_input(self) -> int:
        return max(super().smallest_input(), self.window)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.neck(x)  # (N, 4096, H', W')
        x = x if pre_logits else self.head(x)
        return x if self.unpooled else x.amax((2, 3))  # (N, num_classes) or (N, 4096)

    def forward_map(self, x: Tensor, fine: bool = False) -> Tensor:
        """Class scores (N, num_classes, H', W') of all windows of images (N, in_chans,
        H, W), `step` pixels apart.

        `fine`: offset pooling (section 3.3), the last pool begins at each of its pixels
        in turn, and the maps that this gives are interleaved: the windows lie `step` /
        `pool` pixels apart.
        """
        x = self.forward_features(x)  # unpooled
        if not fine:
            return self.head(self.neck(x))
        height, width = (pixels - self.pool * self.side + 1 for pixels in x.shape[2:])
        scores = x.new_empty(len(x), self.num_classes or self.head_hidden_size, height, width)
        for dy in range(min(self.pool, height)):
            for dx in range(min(self.pool, width)):
                shifted = self.head(self.neck(x[:, :, dy:, dx:]))
                scores[:, :, dy :: self.pool, dx :: self.pool] = shifted
        return scores

    def forward_scales(self, scales: Iterable[Tensor]) -> Tensor:
        """Class scores (N, num_classes) of the same images at several scales (N,
        in_chans, H, W) each (section 3.3).

        The spatial maximum of the fine map, averaged over the scales and over each
        image and its mirror image.
        """
        views = (view for x in scales for view in (x, x.flip(3)))
        scores = [self.forward_map(view, fine=True).amax((2, 3)) for view in views]
        return torch.stack(scores).mean(0)

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=0.01)
            init.constant_(module.bias, 0)


Layers = tuple[tuple[int, int, int, int], ...]
TABLE_1: Layers = (  # channels, kernel, stride, pool
    (96, 11, 4, 2),
    (256, 5, 1, 2),
    (512, 3, 1, 0),
    (1024, 3, 1, 0),
    (1024, 3, 1, 2),
)
TABLE_3: Layers = (
    (96, 7, 2, 3),
    (256, 7, 1, 2),
    (512, 3, 1, 0),
    (512, 3, 1, 0),
    (1024, 3, 1, 0),
    (1024, 3, 1, 3),
)
# The outputs from stage 2 on are the tables' inputs of the next layers.
OUTPUTS_1 = {
    "stage2": (256, 12, 12),
    "stage3": (512, 12, 12),
    "stage4": (1024, 12, 12),
    "stage5": (1024, 12, 12),
}
OUTPUTS_3 = {
    "stage2": (256, 15, 15),
    "stage3": (512, 15, 15),
    "stage4": (512, 15, 15),
    "stage5": (1024, 15, 15),
    "stage6": (1024, 15, 15),
}


def row(
    *,
    table: str,
    layers: Layers,
    hidden: tuple[int, int],
    side: int,
    window: int,
    step: int,
    outputs: dict[str, tuple[int, int, int]],
    params: int,
    macs: int,
    millions: int,
    results: tuple[Result, ...],
) -> Variant:
    """A network of `table` with what the paper prints: `outputs`, `window`, `step` and
    parameters in `millions` (Table 4).
    """
    channels = layers[-1][0]
    readme = "released program's readme"
    printed = (
        PrintedFigure("params", millions * 1e6, "Table 4", resolution=1e6),
        PrintedFigure("window", window, table, compute=lambda model: model.window),
        PrintedFigure("step of the windows", step, readme, compute=lambda model: model.step),
        *stage_outputs(table, outputs),
        PrintedFigure("output", (channels, side, side), table, module="neck.pool"),
    )
    image = ImageInput(
        (3, window, window),
        min_size=window,
        mean=(118.380948 / 255,) * 3,
        std=(61.896913 / 255,) * 3,
    )
    narrow = tuple((width // 8, kernel, stride, pool) for width, kernel, stride, pool in layers)
    return Variant(
        model_args={"layers": layers, "hidden": hidden, "side": side},
        claims=Claims(params, macs, printed),
        depth=len(layers) + 3,
        inputs=(image,),
        results=results,
        tiny={"layers": narrow, "hidden": (48, 64)},
    )


VAL = "Table 2, as cited in arXiv:1409.1556, Table 7"
TEST = "ILSVRC-2013 test"
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
        # layers, hidden, side, window, step, outputs; exact counts;
        # Table 4: millions of parameters
        "overfeat_fast": row(
            table="Table 1", layers=TABLE_1, hidden=(3072, 4096), side=6, window=231, step=32, outputs=OUTPUTS_1,
            params=145_920_872, macs=2_801_403_904, millions=145,
            results=error_rates(top5=14.2, data=TEST, protocol="7 networks, in the competition", source="section 3"),
        ),
        "overfeat_accurate": row(
            table="Table 3", layers=TABLE_3, hidden=(4096, 4096), side=5, window=221, step=36, outputs=OUTPUTS_3,
            params=144_656_488, macs=5_355_446_784, millions=144,
            results=(
                *error_rates(top1=35.7, top5=14.2, protocol="single network, 4 scales, fine", source=VAL),
                *error_rates(top1=34.0, top5=13.2, protocol="7 networks, 4 scales, fine", source=VAL),
                *error_rates(top5=13.6, data=TEST, protocol="7 networks, after the competition", source="section 3"),
            ),
        ),
    },
)
