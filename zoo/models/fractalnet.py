"""FractalNet: very deep networks without residuals, in which columns of many depths run
side by side and meet in means.

G. Larsson, M. Maire, G. Shakhnarovich. FractalNet: Ultra-Deep Neural Networks without
Residuals. ICLR 2017, arXiv:1605.07648. CIFAR network: Table 1. The depth study is the
table of 5 to 160 layers on CIFAR-100.

fractalnet_cifar10 is the 20-layer network of three columns. fractalnet_c1 to
fractalnet_c6 are the depth study on CIFAR-100: narrower, of one to six columns, 5 to
160 layers. `column=c` builds one column alone (the deepest is c = columns: a plain
network), and `model.column_network(c)` takes it out of a trained network.

Readings
- A block's convolutions follow the expansion rule: the first of each column widens. All
  six counts of the depth study agree with that, and so does the authors' released
  generator; the 38.6M printed for the CIFAR network do not, which has 33.7M.
- A block's pool is applied to each column before the last join, as in the authors'
  generator. `pool="join"` pools the mean. At sizes that are no multiples of 32 pools
  round down, Caffe's up.
- Drop-path is drawn per mini-batch: with even chance local (each input of a join is
  dropped with probability 0.15; one at random stays if none would) or global (one
  column in the whole network; the others are not computed). The authors' generator has
  the global case as tied copies of the columns in each mini-batch instead.
- Dropout stands between convolution and batch norm, as in the authors' generator. What
  the batch norms then average in training is not what they get in evaluation, which
  tells after a short training: `drop_rate=0` there.

Departures
- Batch norms have scale and shift, and the convolutions no bias; the authors' Caffe
  layers are the other way round.
- Maps of other inputs than 32 are averaged to one position before the head.
- Images are normalised by ImageNet's mean and standard deviation.
"""

import copy
from collections import OrderedDict
from contextlib import nullcontext
from itertools import chain, pairwise

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.errors import InputError, check_choice
from zoo.figures import CIFAR10_TEST, error_rates, halved, stage_outputs
from zoo.interfaces.classifier import Classifier
from zoo.interfaces.network import frozen_statistics
from zoo.layers import init
from zoo.layers.neck import global_pool
from zoo.layers.tracing import as_one_node, is_symbolic, refuse_recording
from zoo.spec import Claims, Family, ImageInput, Paper, PrintedFigure, Result, Variant


def conv_unit(in_chans: int, out_chans: int, drop_rate: float) -> nn.Module:
    """3x3 convolution, dropout, batch norm and ReLU: (N, in_chans, H, W) -> (N,
    out_chans, H, W).
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_chans, out_chans, 3, padding=1, bias=False),
            drop=nn.Dropout(drop_rate),
            bn=nn.BatchNorm2d(out_chans),
            relu=nn.ReLU(inplace=True),
        )
    )


class Join(nn.Module):
    """Mean of equal-shaped maps. Local drop-path in training: each is left out with
    probability `drop_prob`, but never all.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, maps: list[Tensor]) -> Tensor:
        if self.training and self.drop_prob:
            refuse_recording("the columns that are dropped")
            kept = torch.rand(len(maps), device="cpu") >= self.drop_prob
            if not kept.any():
                kept[torch.randint(len(maps), (), device="cpu")] = True
            maps = [x for x, keep in zip(maps, kept.tolist(), strict=True) if keep]
        return sum(maps[1:], maps[0]) / len(maps)

    def disable_drop_path(self) -> None:
        """Keep everything from now on."""
        self.drop_prob = 0.0


@torch.fx.wrap  # a traced network draws in each pass
def drawn_column(x: Tensor | None, columns: int, share: float) -> int:
    """One of the columns, in this `share` of the mini-batches `x`; 0 in the others."""
    refuse_recording("the columns that are dropped")
    if torch.rand((), device="cpu") >= share:
        return 0
    return int(torch.randint(1, columns + 1, (), device="cpu"))


class FractalBlock(nn.Module):
    """A block of columns, by the expansion rule: (N, in_chans, H, W) -> (N, out_chans,
    H/2, W/2).

    Column c, from 1, has 2^(c-1) convolutions. Columns that end a convolution at the
    same depth are joined there, and all of them go on with the mean. `pool` is
    "columns" or "join": what the last pool takes.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        columns: int,
        *,
        drop_rate: float,
        drop_path: float,
        pool: str,
    ) -> None:
        super().__init__()
        # Of a column's convolutions, in steps of the deepest column's.
        self.spans = {c: 2 ** (columns - c) for c in range(1, columns + 1)}
        self.only = 0  # the column that is left alone
        self.columns = nn.ModuleDict()
        for c in range(1, columns + 1):
            widths = [in_chans, *[out_chans] * 2 ** (c - 1)]
            self.columns[str(c)] = nn.Sequential(
                *(conv_unit(*pair, drop_rate) for pair in pairwise(widths))
            )
        self.join = Join(drop_path)
        self.pool = nn.MaxPool2d(2)
        self.pool_first = pool == "columns"

    def keep(self, column: int) -> None:
        """Remove the other columns."""
        self.columns = nn.ModuleDict({str(column): self.columns[str(column)]})
        self.only = column

    def forward(self, x: Tensor, column: int = 0) -> Tensor:
        """`column`: the one to run in training; 0: all."""
        if self.training and is_symbolic(x):
            return as_one_node(self, x, column)
        column = self.only or (column if self.training else 0)
        if column:
            return self.pool(self.columns[str(column)](x))
        maps = dict.fromkeys(self.spans, x)
        for step in range(1, self.spans[1] + 1):
            ending = [c for c, span in self.spans.items() if step % span == 0]
            for c in ending:
                index = step // self.spans[c] - 1
                unit = self.columns[str(c)].get_submodule(str(index))
                maps[c] = unit(maps[c])  # (N, out_chans, H, W)
            if step == self.spans[1] and self.pool_first:
                maps = {c: self.pool(each) for c, each in maps.items()}  # (N, ..., H/2, W/2)
            if len(ending) > 1:
                maps.update(dict.fromkeys(ending, self.join([maps[c] for c in ending])))
        return maps[1] if self.pool_first else self.pool(maps[1])  # the last join is everywhere


class FractalNet(Classifier):
    """FractalNet: a block per entry of `channels`, each of `columns` columns. Input (N,
    in_chans, H, W) with H, W >= 32.

    `column`: build this column alone, from 1, the shallowest; 0: all. `drop_path`:
    local probability; `global_share`: the share of mini-batches that run one column;
    `pool`: what a block's last pool takes, "columns" or "join"; `drop_rate`: per block,
    or one for all. Raises InputError for a `column` or `pool` that is not there, and
    for rates that do not fit.
    """

    skips_parameters = True

    def __init__(
        self,
        channels: tuple[int, ...] = (64, 128, 256, 512, 512),
        columns: int = 3,
        column: int = 0,
        drop_path: float = 0.15,
        global_share: float = 0.5,
        pool: str = "columns",
        num_classes: int = 10,
        in_chans: int = 3,
        drop_rate: float | tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4),
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("FractalNet", "pool", pool, ("columns", "join"))
        if isinstance(drop_rate, (int, float)):
            drop_rate = (drop_rate,) * len(channels)
        if len(drop_rate) != len(channels):
            raise InputError(
                f"FractalNet: drop_rate={drop_rate}: expected a rate for each of "
                f"{len(channels)} blocks, or one for all"
            )
        self.columns = columns
        self.global_share = global_share
        self.drawn = 0  # the column of this mini-batch
        for number, (width, rate) in enumerate(zip(channels, drop_rate, strict=True), 1):
            block = FractalBlock(
                in_chans, width, columns, drop_rate=rate, drop_path=drop_path, pool=pool
            )  # (N, width, H / 2^number, W / 2^number)
            self.add_stage(f"block{number}", block, width, 2**number)
            in_chans = width
        if column:
            self._keep(column)
        self.neck = global_pool()  # (N, channels[-1])
        self.head_hidden_size = in_chans
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def _keep(self, column: int) -> None:
        if not 1 <= column <= self.columns:
            raise InputError(f"FractalNet: column={column}: expected 1 to {self.columns}")
        for block in self.features:
            assert isinstance(block, FractalBlock)
            block.keep(column)

    def column_network(self, column: int = 0) -> "FractalNet":
        """One column (0: the deepest) as a network of its own, which shares its
        parameters and statistics with this one.
        """
        shared = {id(tensor): tensor for tensor in chain(self.parameters(), self.buffers())}
        alone = copy.deepcopy(self, shared)
        alone._keep(column or self.columns)
        return alone

    def run_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        if stage is self.features[0]:
            self.drawn = self.draw_column(x)
        column = self.drawn
        if is_symbolic(column) and stage is self.features[-1]:
            self.drawn = 0  # the graph's node goes with the graph
        if self.grad_checkpointing and self.training and not is_symbolic(x):
            # As in Network, with the column as an argument: the next pass draws anew.
            return checkpoint(
                stage,
                x,
                column,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), frozen_statistics(stage)),
            )
        return stage(x, column)

    def draw_column(self, x: Tensor | None = None) -> int:
        """Global drop-path: the column that all blocks run; 0 (evaluation): all."""
        return drawn_column(x, self.columns, self.global_share) if self.training else 0

    def disable_drop_path(self) -> None:
        """Keep all columns from now on."""
        self.global_share = 0.0

    def keep_probabilities(self) -> dict[str, float]:
        """How often each column runs in training: local drop-path leaves out what is
        computed, only global drop-path saves.
        """
        blocks = [
            (name, block)
            for name, block in self.features.named_children()
            if isinstance(block, FractalBlock) and not block.only
        ]
        columns = [f"features.{name}.columns.{c}" for name, block in blocks for c in block.columns]
        return dict.fromkeys(columns, 1 - self.global_share + self.global_share / self.columns)

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.glorot_uniform_(module.weight)
            init.constant_(module.bias, 0)


def paper_figures(
    *, depth: int, millions: float, source: str, channels: tuple[int, ...], reason: str = ""
) -> tuple[PrintedFigure, ...]:
    """What the paper prints of a network: its convolutions in depth, its parameters in
    millions, and its channels per block; `reason` why the parameters differ.
    """
    linear = "the paper leaves the linear layer out"
    names = [f"block{n}" for n in range(1, len(channels) + 1)]
    return (
        PrintedFigure("depth", depth, source, reason=linear),
        PrintedFigure("params", round(millions * 1e6), source, resolution=1e5, reason=reason),
        *stage_outputs("filters per block", halved(names, channels, side=16)),
    )


def study(*, columns: int, millions: float, params: int, macs: int) -> Variant:
    """A network of the depth study."""
    channels = (16, 32, 64, 128, 128)
    depth = len(channels) * 2 ** (columns - 1)
    printed = paper_figures(depth=depth, millions=millions, source="depth study", channels=channels)
    count = "1 column" if columns == 1 else f"{columns} columns"
    return Variant(
        model_args={"channels": channels, "columns": columns, "num_classes": 100},
        claims=Claims(params, macs, printed),
        depth=depth,
        inputs=(ImageInput((3, 32, 32), min_size=32),),
        tiny={"columns": min(columns, 2)},
        note=f"depth study on CIFAR-100, {count}",
    )


def error(value: float, protocol: str) -> tuple[Result, ...]:
    """A top-1 error of fractalnet_cifar10."""
    protocol = f"single network, {protocol}"
    return error_rates(top1=value, data=CIFAR10_TEST, protocol=protocol, source="Table 1")


WIDTHS = (64, 128, 256, 512, 512)
TABLE_1 = paper_figures(
    depth=20,
    millions=38.6,
    source="Table 1",
    channels=WIDTHS,
    reason="the expansion rule gives 33.7M; 38.6M fit only if 1x1 convolutions widen before the "
    "blocks, which the released generator lacks",
)
# fmt: off
FAMILY = Family(
    paper=Paper(
        title="FractalNet: Ultra-Deep Neural Networks without Residuals",
        authors="G. Larsson, M. Maire, G. Shakhnarovich",
        year=2017,
        venue="ICLR",
        arxiv="1605.07648",
    ),
    build=FractalNet,
    variants={
        "fractalnet_cifar10": Variant(
            model_args={"channels": WIDTHS, "columns": 3},
            claims=Claims(33_724_618, 845_222_912, TABLE_1),
            depth=20,
            inputs=(ImageInput((3, 32, 32), min_size=32),),
            results=(
                *error(7.33, "no augmentation, drop-path and dropout"),
                *error(4.60, "shifts and mirroring, drop-path and dropout"),
                *error(10.18, "no augmentation"),
                *error(5.22, "shifts and mirroring"),
            ),
            tiny={"channels": (16, 32, 64, 128, 128)},
            note="three columns",
        ),
        # columns; printed parameters in millions; exact counts
        "fractalnet_c1": study(columns=1, millions=0.3, params=258_292, macs=4_583_936),
        "fractalnet_c2": study(columns=2, millions=0.8, params=847_716, macs=19_182_080),
        "fractalnet_c3": study(columns=3, millions=2.1, params=2_125_204, macs=53_834_240),
        "fractalnet_c4": study(columns=4, millions=4.8, params=4_778_820, macs=128_594_432),
        "fractalnet_c5": study(columns=5, millions=10.2, params=10_184_692, macs=283_570_688),
        "fractalnet_c6": study(columns=6, millions=21.1, params=21_095_076, macs=598_979_072),
    },
)
