"""A picture of a block, as SVG: its layers as boxes from top to bottom, drawn from the
module itself, so that it cannot be out of date.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import accumulate
from typing import Any

from graph_layout import Place, layout, neighbours  # beside this file
from torch import Tensor, fx, nn

from zoo.formatting import figure

SIZE, SMALL = 13, 11  # of a box's first line of text and of the others, in pixels
EM = 0.64  # a character's width over its size: on average at most, as fonts differ
LINE, MARGIN = 17, 12  # height of a line of text; between text and border
GAP_X, GAP_Y = 26, 34  # between boxes
COLOURS = {
    "conv": "#dbe9f6",
    "norm": "#e8f3e1",
    "act": "#fdf0d5",
    "pool": "#f6dfe3",
    "block": "#e9e2f3",
    "": "#ececec",
    "end": "#ffffff",
}
NAMES = {
    "ReLU": "ReLU",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "BatchNorm2d": "batch norm",
    "LocalResponseNorm": "response norm",
}
SIGNS = {
    "add": "+",
    "iadd": "+",
    "sub": "−",
    "isub": "−",
    "mul": "×",
    "imul": "×",
    "truediv": "÷",
}
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)
RESHAPING = (nn.Identity, nn.Flatten, nn.Unflatten)  # compute nothing: not drawn


@dataclass
class Box:
    """What is drawn of a node: its lines of text, and whether it is a layer (a
    rectangle) or an operation (round).
    """

    lines: list[str]
    kind: str
    layer: bool = True
    weights: bool = False
    sources: list[Place] = field(default_factory=list)

    @property
    def width(self) -> int:
        first, *others = self.lines
        text = max([len(first) * SIZE, *(len(line) * SMALL for line in others)]) * EM
        return round(max(text + 2 * MARGIN, 110 if self.layer else 34))

    @property
    def height(self) -> int:
        return LINE * len(self.lines) + MARGIN


class _Tracer(fx.Tracer):
    """Looks into the block and the containers in it, not into the layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, CONTAINERS)


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of each tensor, without the batch."""

    def run(self, *args: Any, **kwargs: Any) -> dict[fx.Node, tuple[int, ...]]:
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        super().run(*args, **kwargs)
        return self.shapes

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape[1:])
        return result


def block_svg(
    block: nn.Module,
    example: Tensor,
    title: str,
    *,
    labels: Mapping[str, str] | None = None,
    fold: bool = True,
) -> str:
    """The SVG of a module that torch.fx can trace, as it runs in evaluation; `example`
    is an input of it, on its device.

    `title` is read out to those who do not see it. `labels`: the text for layers, by
    class name. `fold`: what follows a layer with weights and has none itself, such as
    its activation, stands in the same box.
    """
    training = block.training
    try:
        boxes = _boxes(block.eval(), example, labels or {}, fold)
    finally:
        block.train(training)
    return _draw(boxes, title)


# ------------------------------------------------------------------------ what is drawn


def _boxes(
    block: nn.Module, example: Tensor, labels: Mapping[str, str], fold: bool
) -> dict[Place, Box]:
    """A box per node that computes something, from the input to the output."""
    given = {
        name: p.default
        for name, p in inspect.signature(block.forward).parameters.items()
        if p.default is not p.empty
    }
    graph = _Tracer().trace(block, concrete_args=given)
    shapes = _Shapes(fx.GraphModule(block, graph)).run(example, *given.values())
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or any(user in needed for user in node.users):
            needed.add(node)
    boxes: dict[Place, Box] = {}
    origin: dict[fx.Node, Place] = {}  # the box in which a node's output is made
    for node in graph.nodes:
        before = [source for source in node.all_input_nodes if source in origin]
        if node not in needed or (not before and node.op != "placeholder"):
            continue
        sources = list(dict.fromkeys(origin[source] for source in before))
        layer = block.get_submodule(str(node.target)) if node.op == "call_module" else None
        if layer is not None and idle(layer, shapes.get(before[0]) == shapes.get(node)):
            origin[node] = sources[0]
            continue
        if "alpha" in node.kwargs:  # a + alpha b
            boxes[node, "scaled"] = Box(
                [f"× {node.kwargs['alpha']:.3g}"], "", layer=False, sources=sources[1:]
            )
            sources[1:] = [(node, "scaled")]
        box = (
            _operation(node, figure(shapes.get(node, ())))
            if layer is None
            else layer_box(layer, labels)
        )
        box.sources = sources
        alone = len(before) == 1 and len(before[0].users) == 1
        if fold and alone and boxes[sources[0]].weights and box.kind in ("norm", "act"):
            first, *others = boxes[sources[0]].lines
            boxes[sources[0]].lines = [first, ", ".join([*others, *box.lines])]
            origin[node] = sources[0]
        else:
            boxes[node] = box
            origin[node] = node
    return boxes


def idle(layer: nn.Module, unchanged: bool) -> bool:
    """Whether a layer does nothing in this place; `unchanged`: its output has the shape
    of its input.
    """
    if isinstance(layer, nn.Dropout):
        return layer.p == 0
    return isinstance(layer, RESHAPING) or (unchanged and isinstance(layer, nn.AdaptiveAvgPool2d))


def layer_box(layer: nn.Module, labels: Mapping[str, str]) -> Box:
    kind = type(layer).__name__
    weights = next(layer.parameters(), None) is not None
    if not type(layer).__module__.startswith("torch."):
        words = kind if kind.isupper() else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind).lower()
        style = "conv" if weights else ""
        if not weights and next(layer.buffers(), None) is None:
            style = "act"
        return Box([labels.get(kind, words)], style, weights=weights)
    if isinstance(layer, nn.Conv2d):
        groups = f", {layer.groups} groups" if layer.groups > 1 else ""
        size, stride = _size(layer.kernel_size), _strided(layer.stride)
        return Box([f"{size} conv, {layer.out_channels}{groups}{stride}"], "conv", weights=True)
    if isinstance(layer, nn.Linear):
        return Box([f"linear, {layer.out_features}"], "conv", weights=True)
    if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
        what = "max" if isinstance(layer, nn.MaxPool2d) else "average"
        return Box([f"{_size(layer.kernel_size)} {what} pool{_strided(layer.stride)}"], "pool")
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        size = _size(layer.output_size)
        return Box(["global average pool" if size == "1x1" else f"average pool to {size}"], "pool")
    if isinstance(layer, nn.Dropout):
        return Box([f"dropout {layer.p:g}"], "act")
    return Box([NAMES.get(kind, kind)], "norm" if "Norm" in kind else "act")


def _operation(node: fx.Node, shape: str) -> Box:
    if node.op in ("placeholder", "output"):
        return Box(["input" if node.op == "placeholder" else "output", shape], "end")
    name = (
        node.target
        if isinstance(node.target, str)
        else getattr(node.target, "__name__", str(node.target))
    ).strip("_")
    if name in ("relu", "tanh", "sigmoid"):
        return Box(["ReLU" if name == "relu" else name], "act")
    if name == "cat":
        return Box(["concatenate"], "", layer=False)
    numbers = [f"{number:.3g}" for number in node.args if isinstance(number, (int, float))]
    if name in SIGNS and numbers:
        first = isinstance(node.args[0], (int, float)) and name not in ("mul", "add")
        return Box(
            [f"{numbers[0]} {SIGNS[name]}" if first else f"{SIGNS[name]} {numbers[0]}"],
            "",
            layer=False,
        )
    return Box([SIGNS.get(name, name.replace("_", " "))], "", layer=False)


def _size(size: Any) -> str:
    return figure(size if isinstance(size, tuple) else (size, size))


def _strided(stride: Any) -> str:
    """The stride where it is not 1: `, /2`."""
    sides = stride if isinstance(stride, tuple) else (stride, stride)
    if sides == (1, 1):
        return ""
    return f", /{sides[0] if len(set(sides)) == 1 else figure(sides)}"


# ------------------------------------------------------------------------------ drawing


def _draw(boxes: Mapping[Place, Box], title: str) -> str:
    plan = layout(
        {key: box.sources for key, box in boxes.items()},
        {key: box.width for key, box in boxes.items()},
        GAP_X,
    )
    heights = [
        max(boxes[place].height if place in boxes else 0 for place in row) for row in plan.rows
    ]
    starts = list(accumulate([float(GAP_X), *(height + GAP_Y for height in heights)]))
    bands = {
        place: (y, y + height)
        for row, y, height in zip(plan.rows, starts, heights, strict=False)
        for place in row
    }
    halves = {place: boxes[place].width / 2 if place in boxes else 0.0 for place in plan.x}
    left = min(x - halves[place] for place, x in plan.x.items()) - GAP_X
    width, height = (
        max(x + halves[place] for place, x in plan.x.items()) + GAP_X - left,
        starts[-1] - GAP_Y + GAP_X,
    )
    parts = head(width, height, title)
    above, _ = neighbours(plan.lines)
    for upper, lower in plan.lines:
        x0, x1 = plan.x[upper] - left, plan.x[lower] - left
        start, leave = _span(boxes, bands, upper)[1], bands[upper][1]
        enter, end = bands[lower][0], bands[lower][1]
        if lower in boxes:
            end = _span(boxes, bands, lower)[0]
            ports = sorted(above[lower], key=lambda place: plan.x[place])
            x1 += (ports.index(upper) - (len(ports) - 1) / 2) * min(
                16, (boxes[lower].width - MARGIN) / len(ports)
            )
        arrow = ' marker-end="url(#a)"' if lower in boxes else ""
        curve = _curve((x0, start), leave, enter, (x1, end))
        parts.append(f'<path d="{curve}" fill="none" stroke="#222222"{arrow}/>')
    for key, box in boxes.items():
        x, (top, _) = plan.x[key] - left, _span(boxes, bands, key)
        parts += box_svg(box, x, top)
    return "\n".join([*parts, "</svg>", ""])


def head(width: float, height: float, title: str) -> list[str]:
    """How the SVG of a picture of this size begins; paths may end with the arrow
    `#a`.
    """
    size = f'width="{rounded(width)}" height="{rounded(height)}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {rounded(width)} '
        f'{rounded(height)}" {size} role="img" aria-label="{escape(title)}" '
        'font-family="DejaVu Sans, Verdana, Arial, sans-serif" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="a" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        '<path d="M0,0L8,4L0,8z"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]


def box_svg(box: Box, x: float, top: float) -> list[str]:
    """A box with its middle at `x`, and its text."""
    parts = [
        f'<rect x="{rounded(x - box.width / 2)}" y="{rounded(top)}" width="{box.width}" '
        f'height="{box.height}" rx="{rounded(4 if box.layer else box.height / 2)}" '
        f'fill="{COLOURS[box.kind]}" stroke="#555555"/>'
    ]
    for i, text in enumerate(box.lines):
        size = SMALL if i else SIZE
        y = top + MARGIN / 2 + LINE * (i + 0.5) + size * 0.36  # of the line's foot
        colour = "#444444" if i else "#000000"
        parts.append(
            f'<text x="{rounded(x)}" y="{rounded(y)}" font-size="{size}" fill="{colour}">'
            f"{escape(text)}</text>"
        )
    return parts


def _span(
    boxes: Mapping[Place, Box], bands: Mapping[Place, tuple[float, float]], place: Place
) -> tuple[float, float]:
    """Top and bottom of a box in the middle of its row, or of a row that a line
    passes.
    """
    top, bottom = bands[place]
    slack = (bottom - top - boxes[place].height) / 2 if place in boxes else 0
    return top + slack, bottom - slack


def _curve(
    first: tuple[float, float], leave: float, enter: float, last: tuple[float, float]
) -> str:
    """Down from the point `first` to the row's end at `leave`, over to the next row at
    `enter`, down to the point `last`: bent between the rows only.
    """
    (x0, start), (x1, end) = first, last
    if abs(x0 - x1) < 0.5:
        return f"M{rounded(x1)},{rounded(start)}V{rounded(end)}"
    bend = (leave + enter) / 2
    down = f"V{rounded(leave)}" if leave > start else ""
    rest = f"V{rounded(end)}" if end > enter else ""
    curve = f"C{rounded(x0)},{rounded(bend)} {rounded(x1)},{rounded(bend)} {rounded(x1)},{rounded(enter)}"
    return f"M{rounded(x0)},{rounded(start)}{down}{curve}{rest}"


def rounded(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
