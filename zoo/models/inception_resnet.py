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

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from zoo.errors import InputError
from zoo.layers import init
from zoo.layers.branches import Branches, chain, conv_bn_relu
from zoo.layers.classifier import Classifier
from zoo.spec import Claims, Family, Paper, Printed, Result, Variant

Rows = tuple[tuple[Any, ...], ...]  # a row per branch, a column per convolution in it
KERNELS: dict[str, Rows] = {
    "a": ((1,), (1, 3), (1, 3, 3)),  # Fig. 10 and 16
    "b": ((1,), (1, (1, 7), (7, 1))),  # Fig. 11 and 17
    "c": ((1,), (1, (1, 3), (3, 1))),  # Fig. 13 and 19
}
FILTERS: dict[
    str, dict[str, Rows]
] = {  # of the convolutions, those of the blocks without their last 1x1
    "v1": {
        "a": ((32,), (32, 32), (32, 32, 32)),
        "reduction_a": ((192, 192, 256), (384,)),  # Table 1: k, l, m; n
        "b": ((128,), (128, 128, 128)),
        "reduction_b": (
            (256, 384),
            (256, 256),
            (256, 256, 256),
        ),  # Fig. 12: 1x1, 3x3; 1x1, 3x3; 1x1, 3x3, 3x3
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
    """ReLU(x + scale * conv2d(branches(x))), section 3.2 and 3.3: (N, C, H, W) to the
    same.

    `width`: maps of all branches together. `batch_norm` behind the 1x1 convolution, or
    else its bias; `relu` after the sum or not.
    """

    def __init__(
        self,
        channels: int,
        branches: Branches,
        width: int,
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
    """The maps that the branches give together."""
    return sum(row[-1] for row in rows)


def inception(in_chans: int, filters: Rows, kernels: Rows) -> Branches:
    """A branch per row, with that row's filters and kernels: (N, C, H, W) to (N, sum of
    the rows' last filters, H, W).
    """
    rows = [
        list(zip(maps, sizes, strict=True)) for maps, sizes in zip(filters, kernels, strict=True)
    ]
    chains = [
        chain(in_chans, *row) if len(row) > 1 else conv_bn_relu(in_chans, *row[0]) for row in rows
    ]
    return Branches(**{f"branch{i}": branch for i, branch in enumerate(chains)})


def reduction_a(in_chans: int, filters: Rows) -> Branches:
    """Fig. 7: (N, C, 35, 35) to (N, n + m + C, 17, 17)."""
    (k, l, m), (n,) = filters
    return Branches(
        branch0=conv_bn_relu(in_chans, n, 3, 2, 0),
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
    """The stem behind its first three convolutions, and its maps: (N, 64, 147, 147) to
    (N, 192, 71, 71) to (N, 256 | 384 | 320, 35, 35).

    "v1": Fig. 14; "v4": Fig. 3, that of Inception-v4; "v3": that of Inception-v3, with
    a module behind it, in the released network.
    """
    if kind == "v4":
        third = Branches(
            branch0=nn.MaxPool2d(3, 2), branch1=conv_bn_relu(64, 96, 3, 2, 0)
        )  # (N, 160, 73, 73)
        left = chain(160, (64, 1), (96, 3, 1, 0))
        right = chain(160, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1, 0))
        last = Branches(branch0=conv_bn_relu(192, 192, 3, 2, 0), branch1=nn.MaxPool2d(3, 2))
        return nn.Sequential(third, Branches(branch0=left, branch1=right)), nn.Sequential(last), 384
    plain = chain(64, nn.MaxPool2d(3, 2), (80, 1), (192, 3, 1, 0))
    if kind == "v1":
        return plain, chain(192, (256, 3, 2, 0)), 256
    mixed_5b = inception(192, ((96,), (48, 64), (64, 96, 96)), ((1,), (1, 5), (1, 3, 3)))
    mixed_5b["branch3"] = chain(
        192, nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), (64, 1)
    )
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
        if version not in FILTERS or stem not in ("v1", "v4", "v3"):
            raise InputError(
                f"version={version!r}, stem={stem!r}: Inception-ResNet has versions 'v1', 'v2' and stems 'v1', 'v4', 'v3'"
            )
        filters = FILTERS[version]
        stem2, stem3, channels = make_stem(stem)

        def residual(kind: str, scale: float, relu: bool = True) -> Residual:
            branches = inception(channels, filters[kind], KERNELS[kind])
            return Residual(
                channels, branches, last_filters(filters[kind]), scale, not released, relu
            )

        self.add_stage(
            "stem1", chain(in_chans, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3)), 64, 2
        )  # (N, 64, about H/2, W/2)
        self.add_stage("stem2", stem2, 192, 4)  # (N, 192, about H/4, W/4)
        layers: list[nn.Module] = [*stem3, *(residual("a", scales[0]) for _ in range(blocks[0]))]
        self.add_stage(
            "inception_a", nn.Sequential(*layers), channels, 8
        )  # (N, 256 | 384 | 320, about H/8, W/8)
        layers = [reduction_a(channels, filters["reduction_a"])]
        channels += last_filters(filters["reduction_a"])
        layers += [residual("b", scales[1]) for _ in range(blocks[1])]
        self.add_stage(
            "inception_b", nn.Sequential(*layers), channels, 16
        )  # (N, 896 | 1152 | 1088, about H/16, W/16)
        layers = [reduction_b(channels, filters["reduction_b"])]
        channels += last_filters(filters["reduction_b"])
        layers += [residual("c", scales[2]) for _ in range(blocks[2] - released)]
        if released:
            layers += [residual("c", 1.0, relu=False), conv_bn_relu(channels, 1536, 1)]
            channels = 1536
        self.add_stage(
            "inception_c", nn.Sequential(*layers), channels, 32
        )  # (N, 1792 | 2144 | 1536, about H/32, W/32)
        self.num_features = channels
        self.neck = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), drop=nn.Dropout(drop_rate)
            )
        )
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.truncated_normal_(module.weight, std=0.1)
            init.constant_(module.bias, 0)


def filters_of_reduction_a(model: InceptionResNet) -> tuple[int, ...]:
    """k, l, m and n."""
    module = model.get_submodule("features.inception_b.0")
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return tuple(conv.out_channels for conv in (*convs[1:], convs[0]))


def row(
    version, stem, params, macs, depth, table_1, note, where, maps, errors=(), **fields
) -> Variant:  # type: ignore[no-untyped-def]
    """A network with k, l, m, n; where the maps of A, B and C stand, and they; top-1
    and top-5 errors of Tables 2, 3 and 4.
    """
    printed = [
        Printed("output", (width, side, side), where, module=f"features.inception_{kind}{part}")
        for kind, width, side in zip("abc", maps, (35, 17, 8), strict=True)
        for part in ("", ".0")[
            : 1 + (stem != "v3")
        ]  # before the blocks too; the released stem ends in two modules
    ]
    protocols = [
        ("val without its blacklisted images", "single crop"),
        ("val", "12 crops"),
        ("val", "144 crops"),
    ]
    return Variant(
        fields={"version": version, "stem": stem, **fields},
        claims=Claims(
            params,
            macs,
            (
                Printed("k, l, m, n of Reduction-A", table_1, "Table 1", by=filters_of_reduction_a),
                *printed,
            ),
        ),
        depth=depth,
        input_size=(3, 299, 299),
        min_input=75,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        results=tuple(
            Result(
                f"top-{1 + 4 * (i % 2)} error %",
                error,
                f"ILSVRC-2012 {part}",
                f"single network, {crops}",
                f"Table {2 + i // 2}",
            )
            for i, error in enumerate(errors)
            for part, crops in [protocols[i // 2]]
        ),
        note=note,
    )


V1, V2 = (192, 192, 256, 384), (256, 256, 384, 384)  # Table 1
MAPS_V1, MAPS_V2, MAPS_TF = (256, 896, 1792), (384, 1152, 2144), (320, 1088, 1536)
RELEASED = {"blocks": (10, 20, 10), "released": True}
ERRORS_V1 = (21.3, 5.5, 19.8, 4.6, 18.8, 4.3)
ERRORS_V2 = (19.9, 4.9, 18.7, 4.1, 17.8, 3.7)
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
        "inception_resnet_v1": row(
            "v1", "v1", 22_775_528, 6_206_361_696, 93, V1, "about as costly as Inception-v3", "Fig. 15", MAPS_V1, ERRORS_V1
        ),
        "inception_resnet_v2": row(
            "v2", "v4", 32_458_088, 9_257_953_632, 96, V2, "the network of the paper's figures", "Fig. 3 and 18", MAPS_V2, ERRORS_V2
        ),
        "inception_resnet_v2_tf": row(
            "v2", "v3", 55_843_464, 13_155_794_016, 176, V2, "as the authors released it", "release", MAPS_TF, **RELEASED
        ),
    },
)
