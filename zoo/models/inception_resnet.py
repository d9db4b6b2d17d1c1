"""Inception-ResNet: Inception modules as the branches of residual blocks.

C. Szegedy, S. Ioffe, V. Vanhoucke, A. A. Alemi. Inception-v4, Inception-ResNet and the
Impact of Residual Connections on Learning. AAAI 2017, arXiv:1602.07261. Networks:
section 3.2, Fig. 10 to 19 and Table 1; scaling: section 3.3; results: section 5;
numbers are those of the arXiv version, AAAI's figures have others. The same paper's
network without residual connections, which has none of these blocks, is
inception_v4.py.

inception_resnet_v1 and inception_resnet_v2 are the networks of the figures.
inception_resnet_v2_tf is the one that the authors released as Inception-ResNet-v2:
twice as many blocks, another stem, biases in place of the batch norms behind the
blocks' last convolutions, no ReLU and no scaling in the last block, and one more
convolution. The paper's text has v2 match the cost of Inception-v4: that network costs
7 % more, the one of the figures 24 % less.

Readings
- A block's last 1x1 convolution has a batch norm and no activation: only the sums have
  none (section 3.2).
- The figures of v2 print 1154 and 2048 filters for the last convolutions of blocks B
  and C. Sums need those of their input, 1152, 2144.
- Residuals are scaled by 0.17, 0.10 and 0.20 in blocks A, B and C, as released; section
  3.3 gives a range, 0.1 to 0.3.
- Branches are concatenated in the released order, 1x7 comes before 7x1 and 1x3 before
  3x1. Means leave out the padding.
- Batch norms have the release's eps. Their statistics move by torch's 0.1 a step, not
  by 0.0003.
- Initialisation is not printed: here that of TensorFlow's Inception networks, a
  truncated normal distribution of 0.1.

Departures
- Input: RGB in [-1, 1], as released.
- The last map is averaged whole; at 299 it has the printed 8x8.
"""

from typing import Any

from torch import Tensor, nn

from zoo.errors import check_choice
from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers.inception import Branches, chain, conv_bn_relu, inception_v4_stem
from zoo.layers.init import init_tensorflow_
from zoo.layers.neck import global_pool
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant

Rows = tuple[tuple[Any, ...], ...]  # a row per branch, a column per convolution in it
KERNELS: dict[str, Rows] = {
    "a": ((1,), (1, 3), (1, 3, 3)),  # Fig. 10 and 16
    "b": ((1,), (1, (1, 7), (7, 1))),  # Fig. 11 and 17
    "c": ((1,), (1, (1, 3), (3, 1))),  # Fig. 13 and 19
}
# Of the convolutions, those of the blocks without their last 1x1. Table 1: k, l, m; n.
# Fig. 12: 1x1, 3x3; 1x1, 3x3; 1x1, 3x3, 3x3.
FILTERS: dict[str, dict[str, Rows]] = {
    "v1": {
        "a": ((32,), (32, 32), (32, 32, 32)),
        "reduction_a": ((192, 192, 256), (384,)),
        "b": ((128,), (128, 128, 128)),
        "reduction_b": ((256, 384), (256, 256), (256, 256, 256)),
        "c": ((192,), (192, 192, 192)),
    },
    "v2": {
        "a": ((32,), (32, 32), (32, 48, 64)),
        "reduction_a": ((256, 256, 384), (384,)),
        "b": ((192,), (128, 160, 192)),
        "reduction_b": ((256, 384), (256, 288), (256, 288, 320)),  # Fig. 18
        "c": ((192,), (192, 224, 256)),
    },
}


class Residual(nn.Module):
    """ReLU(x + scale * conv2d(branches(x))), section 3.2 and 3.3, of maps (N, C, H, W).

    `width`: channels of all branches together. `batch_norm` behind the 1x1 convolution,
    or else its bias; `relu` after the sum or not.
    """

    def __init__(
        self,
        channels: int,
        branches: Branches,
        width: int,
        *,
        scale: float,
        batch_norm: bool,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.branches = branches
        self.conv2d = nn.Conv2d(width, channels, 1, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(channels, eps=0.001) if batch_norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.scale * self.bn(self.conv2d(self.branches(x))))

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


def last_filters(rows: Rows) -> int:
    """The channels that the branches give together."""
    return sum(row[-1] for row in rows)


def inception(in_chans: int, filters: Rows, kernels: Rows) -> Branches:
    """A branch per row, with that row's filters and kernels: (N, C, H, W) to (N, sum of
    the rows' last filters, H, W).
    """
    branches: dict[str, nn.Module] = {}
    for i, (widths, sizes) in enumerate(zip(filters, kernels, strict=True)):
        if len(widths) > 1:
            branches[f"branch{i}"] = chain(in_chans, *zip(widths, sizes, strict=True))
        else:
            branches[f"branch{i}"] = conv_bn_relu(in_chans, widths[0], sizes[0])
    return Branches(**branches)


def reduction_a(in_chans: int, filters: Rows) -> Branches:
    """Fig. 7: (N, C, 35, 35) to (N, n + m + C, 17, 17)."""
    (k, l, m), (n,) = filters
    return Branches(
        branch0=conv_bn_relu(in_chans, n, 3, 2, padding=0),
        branch1=chain(in_chans, (k, 1), (l, 3), (m, 3, 2, 0)),
        branch2=nn.MaxPool2d(3, 2),
    )


def reduction_b(in_chans: int, filters: Rows) -> Branches:
    """Fig. 12 and 18: (N, C, 17, 17) to (N, sum of the last filters + C, 8, 8)."""
    (a, b), (c, d), (e, f, g) = filters
    return Branches(
        branch0=chain(in_chans, (a, 1), (b, 3, 2, 0)),
        branch1=chain(in_chans, (c, 1), (d, 3, 2, 0)),
        branch2=chain(in_chans, (e, 1), (f, 3), (g, 3, 2, 0)),
        branch3=nn.MaxPool2d(3, 2),
    )


def make_stem(kind: str) -> tuple[nn.Sequential, nn.Sequential, int]:
    """The stem behind its first three convolutions, and its channels: (N, 64, 147, 147)
    to (N, 192, 71, 71) to (N, 256 | 384 | 320, 35, 35).

    "v1": Fig. 14; "v4": Fig. 3, that of Inception-v4; "v3": that of Inception-v3, with
    a module behind it, in the released network.
    """
    if kind == "v4":
        middle, last = inception_v4_stem()
        return middle, nn.Sequential(last), 384
    plain = chain(64, nn.MaxPool2d(3, 2), (80, 1), (192, 3, 1, 0))
    if kind == "v1":
        return plain, chain(192, (256, 3, 2, 0)), 256
    mixed_5b = inception(192, ((96,), (48, 64), (64, 96, 96)), ((1,), (1, 5), (1, 3, 3)))
    mean = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
    mixed_5b["branch3"] = chain(192, mean, (64, 1))
    return plain, nn.Sequential(nn.MaxPool2d(3, 2), mixed_5b), 320


class InceptionResNet(Classifier):
    """Inception-ResNet (Fig. 15). Input (N, in_chans, H, W) with H, W >= 75.

    `version`: whose filters, "v1" or "v2". `stem`: "v1", "v4" or "v3". `blocks`: how
    many A, B and C, whose residuals are multiplied by `scales`. `released`: biases,
    last block and last convolution as in the authors' release. The stages inception_a,
    inception_b and inception_c begin with what halves the grid: the stem's last part,
    Reduction-A, Reduction-B.
    """

    def __init__(
        self,
        version: str,
        stem: str,
        blocks: tuple[int, int, int] = (5, 10, 5),
        scales: tuple[float, float, float] = (0.17, 0.10, 0.20),
        released: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.2,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("InceptionResNet", "version", version, FILTERS)
        check_choice("InceptionResNet", "stem", stem, ("v1", "v4", "v3"))
        filters = FILTERS[version]
        stem2, stem3, channels = make_stem(stem)

        def residual(kind: str, scale: float, relu: bool = True) -> Residual:
            branches = inception(channels, filters[kind], KERNELS[kind])
            width = last_filters(filters[kind])
            return Residual(
                channels, branches, width, scale=scale, batch_norm=not released, relu=relu
            )

        stem1 = chain(in_chans, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3))
        self.add_stage("stem1", stem1, 64, 2)  # (N, 64, about H/2, W/2)
        self.add_stage("stem2", stem2, 192, 4)  # (N, 192, about H/4, W/4)

        layers: list[nn.Module] = [*stem3, *(residual("a", scales[0]) for _ in range(blocks[0]))]
        stage = nn.Sequential(*layers)  # (N, 256 | 384 | 320, about H/8, W/8)
        self.add_stage("inception_a", stage, channels, 8)

        layers = [reduction_a(channels, filters["reduction_a"])]
        channels += last_filters(filters["reduction_a"])
        layers += [residual("b", scales[1]) for _ in range(blocks[1])]
        stage = nn.Sequential(*layers)  # (N, 896 | 1152 | 1088, about H/16, W/16)
        self.add_stage("inception_b", stage, channels, 16)

        layers = [reduction_b(channels, filters["reduction_b"])]
        channels += last_filters(filters["reduction_b"])
        layers += [residual("c", scales[2]) for _ in range(blocks[2] - released)]
        if released:
            layers += [residual("c", 1.0, relu=False), conv_bn_relu(channels, 1536, 1)]
            channels = 1536
        stage = nn.Sequential(*layers)  # (N, 1792 | 2144 | 1536, about H/32, W/32)
        self.add_stage("inception_c", stage, channels, 32)

        self.neck = global_pool(drop_rate=drop_rate)  # (N, channels)
        self.head_hidden_size = channels
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_tensorflow_(module)


def filters_of_reduction_a(model: InceptionResNet) -> tuple[int, ...]:
    """k, l, m and n."""
    module = model.get_submodule("features.inception_b.0")
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return tuple(conv.out_channels for conv in (*convs[1:], convs[0]))


def row(
    *,
    version: str,
    stem: str,
    blocks: tuple[int, int, int] = (5, 10, 5),
    released: bool = False,
    table_1: tuple[int, int, int, int],
    channels: tuple[int, int, int],
    source: str,
    params: int,
    macs: int,
    depth: int,
    results: tuple[Result, ...] = (),
    note: str,
) -> Variant:
    """A network with k, l, m and n of `table_1`, and the `channels` of A, B and C,
    which are printed in `source`.
    """
    outputs: dict[str, tuple[int, ...]] = {}
    for kind, width, side in zip("abc", channels, (35, 17, 8), strict=True):
        outputs[f"inception_{kind}"] = (width, side, side)
        if stem != "v3":  # before the blocks too; the released stem ends in two modules
            outputs[f"inception_{kind}.0"] = (width, side, side)
    filters = PrintedFigure(
        "k, l, m, n of Reduction-A", table_1, "Table 1", compute=filters_of_reduction_a
    )
    return Variant(
        model_args={"version": version, "stem": stem, "blocks": blocks, "released": released},
        claims=Claims(params, macs, (filters, *stage_outputs(source, outputs))),
        depth=depth,
        inputs=(ImageInput((3, 299, 299), min_size=75, mean=(0.5,) * 3, std=(0.5,) * 3),),
        results=results,
        tiny={"blocks": (1, 1, 2)},
        note=note,
    )


def errors(
    crops: str, source: str, *, top1: float, top5: float, part: str = "val"
) -> tuple[Result, ...]:
    data, protocol = f"ILSVRC-2012 {part}", f"single network, {crops}"
    return error_rates(top1=top1, top5=top5, data=data, protocol=protocol, source=source)


BLACKLIST = "val without its blacklisted images"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        authors="C. Szegedy, S. Ioffe, V. Vanhoucke, A. A. Alemi",
        year=2017,
        venue="AAAI",
        arxiv="1602.07261",
    ),
    build=InceptionResNet,
    variants={
        # filters, stem, blocks; Table 1: k, l, m, n; channels of A, B, C; exact counts;
        # Tables 2 to 4: top-1 and top-5 error in %
        "inception_resnet_v1": row(
            version="v1", stem="v1", table_1=(192, 192, 256, 384), channels=(256, 896, 1792), source="Fig. 15",
            params=22_775_528, macs=6_206_361_696, depth=93,
            results=(
                *errors("single crop", "Table 2", top1=21.3, top5=5.5, part=BLACKLIST),
                *errors("12 crops", "Table 3", top1=19.8, top5=4.6),
                *errors("144 crops", "Table 4", top1=18.8, top5=4.3),
            ),
            note="about as costly as Inception-v3",
        ),
        "inception_resnet_v2": row(
            version="v2", stem="v4", table_1=(256, 256, 384, 384), channels=(384, 1152, 2144), source="Fig. 3 and 18",
            params=32_458_088, macs=9_257_953_632, depth=96,
            results=(
                *errors("single crop", "Table 2", top1=19.9, top5=4.9, part=BLACKLIST),
                *errors("12 crops", "Table 3", top1=18.7, top5=4.1),
                *errors("144 crops", "Table 4", top1=17.8, top5=3.7),
            ),
            note="the network of the paper's figures",
        ),
        "inception_resnet_v2_tf": row(
            version="v2", stem="v3", blocks=(10, 20, 10), released=True, table_1=(256, 256, 384, 384), channels=(320, 1088, 1536),
            source="release", params=55_843_464, macs=13_155_794_016, depth=176, note="as the authors released it",
        ),
    },
)
