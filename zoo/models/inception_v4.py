"""Inception-v4: the Inception network rebuilt from uniform modules, one kind for each
size of the grid.

C. Szegedy, S. Ioffe, V. Vanhoucke, A. A. Alemi. Inception-v4, Inception-ResNet and the
Impact of Residual Connections on Learning. AAAI 2017, arXiv:1602.07261. Network:
section 3.1, Fig. 3 to 9 and Table 1; results: section 5; numbers are those of the arXiv
version, AAAI's figures have others. The same paper's residual networks are another
class with other blocks: inception_resnet.py.

Readings
- 1x7 and 7x1 follow one another as in the released network; versions of the paper draw
  both orders.
- Branches are concatenated in the released order. Means leave out the padding, as in
  that release.
- Batch norms have the release's eps. Their statistics move by torch's 0.1 a step, not
  by 0.0003.
- Initialisation is not printed: here that of TensorFlow's Inception networks, a
  truncated normal distribution of 0.1.

Departures
- Input: RGB in [-1, 1], as released.
- The last map is averaged whole; at 299 it has the printed 8x8.
"""

from torch import nn

from zoo.figures import error_rates, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers.inception import Branches, chain, conv_bn_relu, inception_v4_stem
from zoo.layers.init import init_tensorflow_
from zoo.layers.neck import global_pool
from zoo.spec import Claims, Family, ImageInput, Paper, Variant


def stem(in_chans: int) -> tuple[nn.Sequential, nn.Sequential, Branches]:
    """Fig. 3, in three parts: (N, in_chans, 299, 299) to (N, 64, 147, 147), (N, 192,
    71, 71) and (N, 384, 35, 35).
    """
    first = chain(in_chans, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3))
    return first, *inception_v4_stem()


def pooled(in_chans: int, out_chans: int) -> nn.Sequential:
    """The branch that starts with a mean: (N, C, H, W) to (N, out_chans, H, W)."""
    mean = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
    return chain(in_chans, mean, (out_chans, 1))


def inception_a() -> Branches:
    """Fig. 4: (N, 384, 35, 35) to the same."""
    return Branches(
        branch0=conv_bn_relu(384, 96, 1),
        branch1=chain(384, (64, 1), (96, 3)),
        branch2=chain(384, (64, 1), (96, 3), (96, 3)),
        branch3=pooled(384, 96),
    )


def reduction_a() -> Branches:
    """Fig. 7 with the filters of Table 1: (N, 384, 35, 35) to (N, 1024, 17, 17)."""
    k, l, m, n = 192, 224, 256, 384
    return Branches(
        branch0=conv_bn_relu(384, n, 3, 2, padding=0),
        branch1=chain(384, (k, 1), (l, 3), (m, 3, 2, 0)),
        branch2=nn.MaxPool2d(3, 2),
    )


def inception_b() -> Branches:
    """Fig. 5: (N, 1024, 17, 17) to the same."""
    return Branches(
        branch0=conv_bn_relu(1024, 384, 1),
        branch1=chain(1024, (192, 1), (224, (1, 7)), (256, (7, 1))),
        branch2=chain(1024, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
        branch3=pooled(1024, 128),
    )


def reduction_b() -> Branches:
    """Fig. 8: (N, 1024, 17, 17) to (N, 1536, 8, 8)."""
    return Branches(
        branch0=chain(1024, (192, 1), (192, 3, 2, 0)),
        branch1=chain(1024, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2, 0)),
        branch2=nn.MaxPool2d(3, 2),
    )


def inception_c() -> Branches:
    """Fig. 6: (N, 1536, 8, 8) to the same."""
    return Branches(
        branch0=conv_bn_relu(1536, 256, 1),
        branch1=chain(1536, (384, 1), split_3x3(384)),
        branch2=chain(1536, (384, 1), (448, (3, 1)), (512, (1, 3)), split_3x3(512)),
        branch3=pooled(1536, 256),
    )


def split_3x3(in_chans: int) -> Branches:
    """1x3 and 3x1 side by side: (N, C, H, W) to (N, 512, H, W)."""
    return Branches(a=conv_bn_relu(in_chans, 256, (1, 3)), b=conv_bn_relu(in_chans, 256, (3, 1)))


class InceptionV4(Classifier):
    """Inception-v4 (Fig. 9). `blocks`: how many modules A, B and C. Input (N, in_chans,
    H, W) with H, W >= 75.

    The stages inception_a, inception_b and inception_c begin with what halves the grid:
    the stem's last part, Reduction-A, Reduction-B.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int] = (4, 7, 3),
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.2,
    ) -> None:
        super().__init__(num_classes, in_chans)
        a, b, c = blocks
        stem1, stem2, stem3 = stem(in_chans)
        self.add_stage("stem1", stem1, 64, 2)  # (N, 64, about H/2, W/2)
        self.add_stage("stem2", stem2, 192, 4)  # (N, 192, about H/4, W/4)
        stage = nn.Sequential(stem3, *(inception_a() for _ in range(a)))
        self.add_stage("inception_a", stage, 384, 8)  # (N, 384, about H/8, W/8)
        stage = nn.Sequential(reduction_a(), *(inception_b() for _ in range(b)))
        self.add_stage("inception_b", stage, 1024, 16)  # (N, 1024, about H/16, W/16)
        stage = nn.Sequential(reduction_b(), *(inception_c() for _ in range(c)))
        self.add_stage("inception_c", stage, 1536, 32)  # (N, 1536, about H/32, W/32)
        self.neck = global_pool(drop_rate=drop_rate)  # (N, 1536)
        self.head_hidden_size = 1536
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_tensorflow_(module)


FIG_3 = {  # the stem's parts
    "stem1.0": (32, 149, 149),
    "stem1.1": (32, 147, 147),
    "stem1.2": (64, 147, 147),
    "stem2.0": (160, 73, 73),
    "stem2.1": (192, 71, 71),
}
FIG_9 = {  # the first and the last module of each size
    "inception_a.0": (384, 35, 35),
    "inception_a": (384, 35, 35),
    "inception_b.0": (1024, 17, 17),
    "inception_b": (1024, 17, 17),
    "inception_c.0": (1536, 8, 8),
    "inception_c": (1536, 8, 8),
}
BLACKLIST = "ILSVRC-2012 val without its blacklisted images"
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        authors="C. Szegedy, S. Ioffe, V. Vanhoucke, A. A. Alemi",
        year=2017,
        venue="AAAI",
        arxiv="1602.07261",
    ),
    build=InceptionV4,
    variants={
        "inception_v4": Variant(
            model_args={},
            claims=Claims(
                params=42_679_816,
                macs=12_253_974_624,
                printed=(*stage_outputs("Fig. 3", FIG_3), *stage_outputs("Fig. 9", FIG_9)),
            ),
            depth=76,
            inputs=(ImageInput((3, 299, 299), min_size=75, mean=(0.5,) * 3, std=(0.5,) * 3),),
            results=(
                *error_rates(top1=20.0, top5=5.0, data=BLACKLIST, protocol="single network, single crop", source="Table 2"),
                *error_rates(top1=18.7, top5=4.2, protocol="single network, 12 crops", source="Table 3"),
                *error_rates(top1=17.7, top5=3.8, protocol="single network, 144 crops", source="Table 4"),
            ),
            tiny={"blocks": (1, 1, 1)},
            note="the paper's network without residual connections",
        ),
    },
)
