"""The two pictures of A. Canziani, A. Paszke, E. Culurciello, *An Analysis of Deep
Neural Network Models for Practical Applications* (arXiv:1605.07678): accuracy per
network, and accuracy against operations with the parameters as area. The colour is the
year.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, check_choice, warn
from zoo.files import write
from zoo.tables.evaluation_protocols import Protocol, accuracy, choose
from zoo.tables.label_placement import GAP, place
from zoo.tables.rows import Row, results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[Row, float]  # a network and its accuracy in per cent

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "zoo",
    "font.size": 9,
}  # text stays text, and equal pictures are equal files
COLOURS = "viridis"  # in the order of lightness: even in grey print and for colour-blind readers
AREA = 1600.0  # of the largest bubble, in square points
LONG = 130  # characters in a line of the caption


def draw(rows: Sequence[Row], path: Path, kind: str, words: str) -> str:
    """Write the picture and return its caption; see `Comparison.plot`."""
    check_choice("Comparison.plot", "kind", kind, ("operations", "accuracy"))
    form = path.suffix.lower().removeprefix(".")
    if form not in ("png", "svg"):
        raise UsageError(f"{path}: a picture is a .png or a .svg file")
    which, found = choose(results(rows), words)
    points = [(row, accuracy(found[row.name])) for row in rows if row.results and row.name in found]
    caption = (
        f"{len(points)} networks, {which.kind} accuracy as their papers report it on "
        f"{which.data} ({which.words})"
    )
    if left_out := [row.name for row in rows if not (row.results and row.name in found)]:
        caption += f"; left out: {len(left_out)} without a result of this protocol"
        names = ", ".join(left_out[:8])
        if len(left_out) > 8:
            names += f" and {len(left_out) - 8} more"
        warn(f"left out, as their papers report no {which}: {names}")

    import matplotlib as mpl
    from matplotlib.figure import Figure

    width = 8.0 if kind == "operations" else max(5.5, 1.5 + 0.4 * len(points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 5.4 if kind == "operations" else 4.8), dpi=120)
        (_operations if kind == "operations" else _bars)(figure, points, which)
        text = textwrap.fill(caption, int(LONG * width / 8))
        figure.text(0.01, 0.01, text, fontsize=7.5, color="#444444")
        out = io.BytesIO()
        figure.savefig(out, format=form, metadata={"Date": None} if form == "svg" else None)
    write(path, out.getvalue())
    return caption


def _years(points: Sequence[Point]) -> dict[int, Any]:
    """The colour of each year that occurs."""
    import matplotlib as mpl

    years = sorted({row.year or 0 for row, _ in points})
    return {
        year: mpl.colormaps[COLOURS](0.9 * i / max(len(years) - 1, 1))
        for i, year in enumerate(years)
    }


def _bars(figure: Figure, points: Sequence[Point], which: Protocol) -> None:
    from matplotlib.patches import Patch

    points = sorted(points, key=lambda point: point[1])
    colours = _years(points)
    low, high = points[0][1], points[-1][1]
    begin = max(0, math.floor(low - max(high - low, 1) / 2))
    axes = figure.add_axes(
        (0.6 / figure.get_figwidth(), 0.34, 1 - 1.6 / figure.get_figwidth(), 0.61)
    )
    axes.bar(
        range(len(points)),
        [value - begin for _, value in points],
        bottom=begin,
        color=[colours[row.year or 0] for row, _ in points],
    )
    for i, (_, value) in enumerate(points):
        axes.annotate(
            f"{value:.4g}", (i, value), (0, 2), textcoords="offset points", ha="center", fontsize=7
        )
    axes.set_xticks(
        range(len(points)),
        [row.name for row, _ in points],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_xlim(-0.6, len(points) - 0.4)
    axes.set_ylim(begin, high + (high - begin) * 0.08)
    axes.set_ylabel(f"{which.kind} accuracy, %" + (f" (from {begin} %)" if begin else ""))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles = [Patch(color=colour, label=str(year)) for year, colour in colours.items()]
    figure.legend(
        handles=handles,
        title="year",
        loc="upper right",
        bbox_to_anchor=(1, 0.97),
        frameon=False,
        fontsize=8,
    )


def _operations(figure: Figure, points: Sequence[Point], which: Protocol) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter

    colours = _years(points)
    axes = figure.add_axes((0.075, 0.17, 0.755, 0.8))
    x, y = [row.flops / 1e9 for row, _ in points], [value for _, value in points]
    most = max(row.params for row, _ in points)
    areas = [AREA * row.params / most for row, _ in points]
    if max(x) > 8 * min(x):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        )
    axes.margins(0.14)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.scatter(
        x,
        y,
        areas,
        c=[colours[row.year or 0] for row, _ in points],
        alpha=0.65,
        edgecolors="#333333",
        linewidths=0.6,
    )
    axes.set_xlabel("operations of one image's forward pass, GFLOPs (a multiply-add is 2 FLOPs)")
    axes.set_ylabel(f"{which.kind} accuracy, %")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    _name(figure, axes, points, areas)
    dots = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=str(year))
        for year, colour in colours.items()
    ]
    figure.legend(
        handles=dots,
        title="year",
        loc="upper left",
        bbox_to_anchor=(0.84, 0.98),
        frameon=False,
        fontsize=8,
    )
    rings = [
        Line2D(
            [],
            [],
            color="#999999",
            marker="o",
            linestyle="",
            markersize=math.sqrt(AREA * size / most),
            label=f"{size / 1e6:g} M",
        )
        for size in sorted({float(f"{most * share:.1g}") for share in (0.04, 0.2, 1)})
    ]
    figure.legend(
        handles=rings,
        title="parameters",
        loc="lower left",
        bbox_to_anchor=(0.835, 0.2),
        frameon=False,
        fontsize=8,
        handlelength=5,
        labelspacing=3,
    )


def _name(figure: Figure, axes: Axes, points: Sequence[Point], areas: Sequence[float]) -> None:
    """Write the names at the bubbles, with a line where there is no room beside
    them.
    """
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    centres = axes.transData.transform([(row.flops / 1e9, value) for row, value in points])
    bubbles = [
        (x, y, math.sqrt(area) / 2 * pixel) for (x, y), area in zip(centres, areas, strict=True)
    ]
    labels = [
        axes.annotate(row.name, (row.flops / 1e9, value), ha="center", va="center", fontsize=7.5)
        for row, value in points
    ]
    extents = [label.get_window_extent() for label in labels]
    chosen = place(
        bubbles,
        [(extent.width, extent.height) for extent in extents],
        axes.get_window_extent().extents,
    )
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#666666", "shrinkA": 0, "shrinkB": 0}
    for label, (x, y, r), (to_x, to_y), extent in zip(
        labels, bubbles, chosen, extents, strict=True
    ):
        beside = (
            abs(to_x - x) < r + GAP + 1 + extent.width / 2
            and abs(to_y - y) < r + GAP + 1 + extent.height / 2
        )
        to = ((to_x - x) / pixel, (to_y - y) / pixel)
        label.remove()
        axes.annotate(
            label.get_text(),
            label.xy,
            to,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            arrowprops=None if beside else line,
        )
