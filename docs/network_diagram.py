"""A picture of a whole network, as SVG: its layers and blocks as boxes in columns that
are read from top to bottom, with the shape of what goes from one to the next on each
arrow. Equal ones in a row are one box with their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from diagram import EM, SMALL, Box, box_svg, head, idle, layer_box, rounded  # beside
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.formatting import figure

TALLEST = 620  # pixels of a column, about
ARROW = 36  # length of an arrow between two boxes of a column
MARGIN = 24  # around the picture
GUTTER = 34  # between columns, beside the shapes that stand there
FUNCTIONS = {  # of torch, in words
    "relu": ("ReLU", "act"),
    "mean": ("global average pool", "pool"),
    "adaptive_avg_pool2d": ("global average pool", "pool"),  # to 1x1, as the networks use it
    "amax": ("global max pool", "pool"),
}
FEW = 4  # layers of a block that are named
LAYERS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)  # that are named
NAMELESS = ("Branches", "Residual")  # classes of blocks that their place in a network names


Shape = tuple[int, ...]


@dataclass
class Step:
    """A layer, or a block of `layers`, with the shape of what it gives, without the
    batch; `count` equal ones in a row.
    """

    box: Box
    shape: Shape
    layers: tuple[str, ...] = ()
    count: int = 1

    def like(self, other: Step) -> bool:
        """Whether another one is the same, but for what a first block has in front."""
        same = (self.shape, self.layers, self.box.kind) == (
            other.shape,
            other.layers,
            other.box.kind,
        )
        lines = slice(1 if self.layers else None)
        return same and self.box.lines[lines] == other.box.lines[lines]


def network_svg(
    model: nn.Module, example: Tensor, title: str, *, labels: Mapping[str, str] | None = None
) -> str:
    """The SVG of a classifier as it runs in evaluation; `example` is an input of it, on
    its device. `title` and `labels` are those of `block_svg`.
    """
    training = model.training
    try:
        found = _steps(model.eval(), example, labels or {})
    finally:
        model.train(training)
    return _draw(found, title)


# ------------------------------------------------------------------------ what is drawn


def _steps(model: nn.Module, example: Tensor, labels: Mapping[str, str]) -> list[Step]:
    """From the input to the output, in the order in which they run."""
    names: dict[nn.Module, str] = {}
    for name in ("features", "neck", "head"):
        names |= {part: own for own, part in _parts(getattr(model, name), name)}
    first = tuple(example.shape[1:])
    steps = [Step(Box(["input"], "end"), first)]
    between = _Between(steps)

    def enter(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        between.inside = True

    def leave(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        between.inside = False
        before, after = (tuple(tensor.shape[1:]) for tensor in (args[0], output))
        if not idle(module, before == after):
            _add(steps, _step(module, names[module], before, after, labels))

    hooks = [part.register_forward_pre_hook(enter) for part in names]
    hooks += [part.register_forward_hook(leave) for part in names]
    with between:
        output = model(example)
    for hook in hooks:
        hook.remove()
    last = tuple(output.shape[1:])
    return [*_counted(steps), Step(Box(["output"], "end"), last)]


class _Between(TorchFunctionMode):
    """Adds the functions of FUNCTIONS that run outside of the parts to the steps."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps = steps
        self.inside = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.inside and func.__name__ in FUNCTIONS:
            words, kind = FUNCTIONS[func.__name__]
            if kind == "act" or result.numel() < args[0].numel():  # a mean of 1x1 is none
                _add(self.steps, Step(Box([words], kind), tuple(result.shape[1:])))
        return result


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """What a sequence holds, and the sequences in it, with its name; what has a number
    there is called like the sequence, with a point.
    """
    if type(module) in (nn.Sequential, nn.ModuleList):
        for own, child in module.named_children():
            yield from _parts(child, f"{name.rstrip('.')}." if own.isdigit() else own)
    else:
        yield name, module


def _step(
    part: nn.Module, name: str, before: Shape, after: Shape, labels: Mapping[str, str]
) -> Step:
    """A layer, or a block with the layers in it, but for a shortcut's."""
    box = layer_box(part, labels)
    if type(part).__name__ in NAMELESS:
        reduces = name.endswith(".") and before[1:] != after[1:]
        box.lines = ["reduction" if reduces else name.rstrip(".").replace("_", " ")]
    inside = [
        layer_box(each, labels).lines[0]
        for path, each in part.named_modules()
        if path and isinstance(each, LAYERS) and "downsample" not in path
    ]
    if len(inside) < 2 or "conv" in box.lines[0]:  # what is called so is a layer itself
        return Step(box, after)
    box.kind = "block"
    layers = tuple(words.partition(", /")[0] for words in inside)  # strides apart
    convolutions = sum("conv" in words for words in inside)
    box.lines += inside if len(inside) <= FEW else [f"{convolutions} convolutions"]
    return Step(box, after, layers)


def _add(steps: list[Step], step: Step) -> None:
    """Append a step; the normalisation and the activation that follow a layer stand in
    its box.
    """
    last = steps[-1]
    if last.box.kind == "norm" and step.box.kind == "act":
        last.box.lines[0] += f", {step.box.lines[0]}"
    elif last.box.kind == "conv" and step.box.kind in ("norm", "act"):
        first, *others = last.box.lines
        last.box.lines = [first, ", ".join([*others, *step.box.lines])]
        last.shape = step.shape
    else:
        steps.append(step)


def _counted(steps: list[Step]) -> list[Step]:
    """Equal ones in a row as one with their number; of blocks the last one's layers, as
    the first one's may change the size.
    """
    found: list[Step] = []
    for step in steps:
        if found and found[-1].like(step):
            step.count = found[-1].count + 1
            found[-1] = step
        else:
            found.append(step)
    for step in found:
        if step.count > 1:
            what = step.box.lines[0]
            step.box.lines[0] = f"{step.count} × {what if what.isalpha() else f'({what})'}"
    return found


# ------------------------------------------------------------------------------ drawing


def _draw(steps: list[Step], title: str) -> str:
    columns = _columns(steps)
    height = max(map(_height, columns)) + 2 * MARGIN
    parts, x = [], float(MARGIN)
    start: tuple[float, float] | None = None  # the foot of the box before
    arriving = steps[0].shape
    for column in columns:
        middle = x + max(step.box.width for step in column) / 2
        y = float(MARGIN)
        for step in column:
            if start is None:
                top = y
            else:
                top = y + ARROW
                line = f"M{rounded(middle)},{rounded(y)}V{rounded(top)}"
                if start[0] != middle:
                    line = _around(start, x - GUTTER / 2, (middle, top))
                parts.append(
                    f'<path d="{line}" fill="none" stroke="#222222" marker-end="url(#a)"/>'
                )
                parts.append(
                    f'<text x="{rounded(middle + 9)}" y="{rounded(top - ARROW / 2 + 4)}" '
                    f'font-size="{SMALL}" fill="#444444" text-anchor="start">'
                    f"{escape(figure(arriving))}</text>"
                )
            parts += box_svg(step.box, middle, top)
            y = top + step.box.height
            start, arriving = (middle, y), step.shape
        x += _width(column) + GUTTER
    width = x - GUTTER + MARGIN
    return "\n".join([*head(width, height, title), *parts, "</svg>", ""])


def _columns(steps: list[Step]) -> list[list[Step]]:
    """The steps in columns, the tallest as low as can be."""
    count = math.ceil(_height(steps) / TALLEST)
    tallest = _height(steps) // count
    while len(columns := _filled(steps, tallest)) > count:
        tallest += 1
    return columns


def _filled(steps: list[Step], tallest: int) -> list[list[Step]]:
    columns: list[list[Step]] = [[]]
    for step in steps:
        if columns[-1] and _height([*columns[-1], step]) > tallest:
            columns.append([])
        columns[-1].append(step)
    return columns


def _height(column: list[Step]) -> int:
    return sum(step.box.height + ARROW for step in column)


def _width(column: list[Step]) -> float:
    """From the boxes' left side to the right end of what stands beside the arrows."""
    boxes = max(step.box.width for step in column)
    labels = max(len(figure(step.shape)) for step in column) * SMALL * EM + 9
    return max(boxes, boxes / 2 + labels)


def _around(start: tuple[float, float], between: float, end: tuple[float, float]) -> str:
    """From the foot of a column at `start`, through the gutter at x = `between`, to the
    top of the next one's first box at `end`.
    """
    (x0, y0), (x1, y1) = start, end
    corners = f"V{rounded(y0 + ARROW / 2)}H{rounded(between)}V{rounded(y1 - ARROW)}"
    return f"M{rounded(x0)},{rounded(y0)}{corners}H{rounded(x1)}V{rounded(y1)}"
