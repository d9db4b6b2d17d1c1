"""Panels of a picture: bubbles or dots with the names of the networks, side by side
with the axes that they share, and one legend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.tables.label_placement import GAP, RINGS, crowded, place
from zoo.tables.panel_layout import (
    CROWD,
    LEGEND,
    MANY,
    MARGIN,
    TITLE,
    Panel,
    Point,
    arrange,
    wrapped,
)
from zoo.tables.ticks import linear_ticks, log_ticks, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {  # text stays text, and equal pictures are equal files
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "zoo",
    "font.size": 9,
    "axes.edgecolor": "#555555",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
}
COLOURS = "viridis"  # in the order of lightness: even in grey print and for colour-blind readers
NO_YEAR = "#999999"  # of a network that no paper of ours describes
SMALLEST = 9.0  # square points of a bubble that is still seen
DOT = 45.0  # square points of a network where the area means nothing


def draw_panels(panels: Sequence[Panel], title: str, dots: bool) -> tuple[Figure, int]:
    """A figure of these panels, bubbles or with `dots` a line per network, and how many
    names have found no room in it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = _years(panels)
    width, height = arrange(panels, dots, len(colours))
    unnamed = 0
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)  # measures text, for both forms
    most = max(point.row.params for panel in panels for point in panel.points)
    roomy = len(panels) == 1 and len(panels[0].points) <= MANY
    largest = 1500.0 if roomy else 800.0
    for panel in panels:
        left, bottom, wide, high = panel.box
        axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
        alike = [
            point for other in panels if other.measure == panel.measure for point in other.points
        ]
        if dots:
            _dots(axes, panel, alike, colours)
        else:
            areas = [
                DOT if panel.logarithmic else max(SMALLEST, largest * point.row.params / most)
                for point in panel.points
            ]
            unnamed += _bubbles(axes, panel, alike, areas, colours)
        if panel.heading:
            lines = [part for text in panel.heading for part in wrapped(text, wide)]
            axes.set_title("\n".join(lines), fontsize=8, loc="left", pad=4)
    figure.text(MARGIN / width, 1 - MARGIN / height, title, fontsize=12, va="top")
    sizes = not dots and not panels[0].logarithmic
    _legends(figure, colours, (most, largest) if sizes else None)
    return figure, unnamed


def _limits(values: Sequence[float], least: float, share: float) -> tuple[float, float]:
    """The range of values with room around it."""
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max(high - low, least) / 2
    return middle - half * (1 + 2 * share), middle + half * (1 + 2 * share)


# ------------------------------------------------------------------------------- panels


def _bubbles(
    axes: Axes,
    panel: Panel,
    alike: Sequence[Point],
    areas: Sequence[float],
    colours: dict[int | None, Any],
) -> int:
    """Bubbles with their names; returns how many of these found no room."""
    share = 0.08 if panel.logarithmic else 0.16
    low, high = _limits([math.log10(point.x) for point in alike], least=0.5, share=share)
    axes.set_xscale("log")
    axes.set_xlim(10**low, 10**high)
    most = max(4, int(1.6 * panel.box[2]))
    _mark(axes.xaxis, log_ticks(10**low, 10**high, most))
    if panel.logarithmic:
        low, high = _limits([math.log10(point.y) for point in alike], least=0.5, share=share)
        axes.set_yscale("log")
        axes.set_ylim(10**low, 10**high)
        _mark(axes.yaxis, log_ticks(10**low, 10**high))
    else:
        low, high = _limits([point.y for point in alike], least=2, share=0.16)
        high = min(high, 100 + 0.1 * (high - low))  # nothing is above, but bubbles have a size
        axes.set_ylim(low, high)
        _mark(axes.yaxis, [tick for tick in linear_ticks(low, high, 7) if 0 <= tick <= 100])
    axes.scatter(
        [point.x for point in panel.points],
        [point.y for point in panel.points],
        list(areas),
        c=[colours[point.row.year] for point in panel.points],
        alpha=0.7,
        edgecolors="#333333",
        linewidths=0.6,
    )
    if panel.lowest:
        axes.set_xlabel("operations: FLOPs of one example (a multiply-add is 2)", fontsize=8.5)
    if panel.first:
        axes.set_ylabel(panel.label, fontsize=8.5)
    else:
        axes.tick_params(labelleft=False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return _name(axes, panel.points, areas)


def _dots(axes: Axes, panel: Panel, alike: Sequence[Point], colours: dict[int | None, Any]) -> None:
    """A line per network, the best on top."""
    points = sorted(panel.points, key=lambda point: point.y)
    low, high = _limits([point.y for point in alike], least=1, share=0.1)
    axes.set_xlim(low, high + 0.14 * (high - low))  # the figures stand behind the dots
    axes.set_ylim(-0.7, len(points) - 0.3)
    _mark(axes.xaxis, [tick for tick in linear_ticks(low, high, 5) if 0 <= tick <= 100])
    axes.hlines(range(len(points)), low, [point.y for point in points], "#cccccc", linewidths=0.8)
    axes.scatter(
        [point.y for point in points],
        range(len(points)),
        34,
        c=[colours[point.row.year] for point in points],
        edgecolors="#333333",
        linewidths=0.5,
        zorder=3,
    )
    for i, point in enumerate(points):
        axes.annotate(
            f"{point.y:.4g}",
            (point.y, i),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(points)), [point.row.name for point in points], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    if panel.lowest:
        axes.set_xlabel(panel.label, fontsize=8.5)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark(axis: Any, ticks: Sequence[float]) -> None:
    """These ticks with their numbers, and no others."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(ticks, [short(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _name(axes: Axes, points: Sequence[Point], areas: Sequence[float]) -> int:
    """Write the names at the bubbles, with a line where there is no room beside them;
    in a crowd those without room are left out. Returns how many.
    """
    figure: Any = axes.figure
    renderer = figure.canvas.get_renderer()
    pixel = figure.dpi / 72
    centres = axes.transData.transform([(point.x, point.y) for point in points])
    bubbles = [
        (x, y, math.sqrt(area) / 2 * pixel) for (x, y), area in zip(centres, areas, strict=True)
    ]
    labels = [
        axes.annotate(point.row.name, (point.x, point.y), ha="center", va="center", fontsize=7.5)
        for point in points
    ]
    sizes = []
    for label in labels:
        extent = label.get_window_extent(renderer)
        sizes.append((extent.width, extent.height))
        label.remove()
    rings = 1 if len(points) > CROWD else RINGS
    chosen = place(bubbles, sizes, axes.get_window_extent().extents, rings)
    hidden = crowded(bubbles, chosen, sizes) if len(points) > CROWD else [False] * len(points)
    for point, (x, y, r), (to_x, to_y), (width, height), left_out in zip(
        points, bubbles, chosen, sizes, hidden, strict=True
    ):
        if left_out:
            continue
        beside = (
            abs(to_x - x) < r + GAP + 1 + width / 2 and abs(to_y - y) < r + GAP + 1 + height / 2
        )
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#666666", "shrinkA": 0}
        line["shrinkB"] = r / pixel
        axes.annotate(
            point.row.name,
            (point.x, point.y),
            ((to_x - x) / pixel, (to_y - y) / pixel),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            arrowprops=None if beside else line,
        )
    return sum(hidden)


# ------------------------------------------------------------------------------ legends


def _years(panels: Sequence[Panel]) -> dict[int | None, Any]:
    """The colour of each year that occurs."""
    import matplotlib as mpl

    found = {point.row.year for panel in panels for point in panel.points}
    years = sorted(year for year in found if year)
    colours: dict[int | None, Any] = {
        year: mpl.colormaps[COLOURS](0.92 * i / max(len(years) - 1, 1))
        for i, year in enumerate(years)
    }
    return {**colours, None: NO_YEAR} if None in found else colours


def _legends(
    figure: Figure, colours: dict[int | None, Any], sizes: tuple[float, float] | None
) -> None:
    """The years, and below them the sizes of some numbers of parameters (the most, and
    its area).
    """
    from matplotlib.lines import Line2D

    left = 1 - (LEGEND - 0.12) / figure.get_figwidth()
    top = 1 - TITLE / figure.get_figheight()
    years = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=str(year or "no paper"))
        for year, colour in colours.items()
    ]
    first = figure.legend(
        handles=years,
        title="year",
        loc="upper left",
        bbox_to_anchor=(left, top),
        frameon=False,
        fontsize=8,
        alignment="left",
    )
    if not sizes:
        return
    most, largest = sizes
    shown = sorted({float(f"{most * share:.1g}") for share in (0.04, 0.25, 1)})
    rings = [
        Line2D(
            [],
            [],
            markerfacecolor="#dddddd",
            markeredgecolor="#333333",
            markeredgewidth=0.6,
            marker="o",
            linestyle="",
            markersize=math.sqrt(max(SMALLEST, largest * size / most)),
            label=short(size),
        )
        for size in shown
    ]
    canvas: Any = figure.canvas
    below = first.get_window_extent(canvas.get_renderer()).y0 / figure.bbox.height
    diameter = math.sqrt(largest) / 8  # in characters
    figure.legend(
        handles=rings,
        title="parameters",
        loc="upper left",
        bbox_to_anchor=(left, below - 0.02),
        frameon=False,
        fontsize=8,
        handlelength=diameter,
        labelspacing=0.8 * diameter - 0.7,
        borderpad=0.8,
        alignment="left",
    )
