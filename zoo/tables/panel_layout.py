"""Where the panels of a picture stand. Lengths in inches."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from zoo.tables.rows import Row

MARGIN, TITLE, CAPTION, LEGEND = 0.15, 0.5, 0.5, 1.3  # inches around the panels
YEAR = 0.18  # inches of a line in the legend
HEADING, TICKS, LABEL, NAMES, GAP_X, GAP_Y = 0.17, 0.28, 0.25, 1.8, 0.16, 0.15  # inches at a panel
MANY = 24  # networks in a single panel from which on it is large, and its bubbles small
CROWD = 40  # networks in a panel from which on a name without room is left out


class Point(NamedTuple):
    """A network at its place."""

    row: Row
    x: float
    y: float


@dataclass
class Panel:
    """Networks in one frame; panels of the same `measure` have the same axes."""

    points: Sequence[Point]
    heading: Sequence[str]
    measure: str
    label: str  # of the vertical axis, of dots of the horizontal one
    logarithmic: bool = False  # the vertical axis; then areas mean nothing
    box: tuple[float, float, float, float] = field(default=(0, 0, 0, 0))  # in inches
    first: bool = True  # of its measure in a line: it has the numbers of the vertical axis
    lowest: bool = True  # of its measure in a column: it has the horizontal axis's label


def arrange(panels: Sequence[Panel], dots: bool, years: int) -> tuple[float, float]:
    """Give each panel its place, in reading order, and return the figure's size in
    inches, with room for this many `years` in the legend.
    """
    columns = len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 3
    if dots:
        wide, high = (4.4 if columns == 1 else 2.6), 0.0
    elif len(panels) == 1 and len(panels[0].points) > MANY:
        wide, high = 10.0, 7.2
    else:
        wide, high = {1: (6.2, 4.2), 2: (4.3, 3.6), 3: (3.7, 3.1)}[columns]
    lines = _lines(panels, columns)
    begins = [any(line[i].first for line in lines if i < len(line)) for i in range(columns)]
    right, top = 0.0, 0.0  # of what has its place: from the left and from the top
    for line in lines:
        top += HEADING * max(
            sum(len(wrapped(text, wide)) for text in panel.heading) for panel in line
        )
        x, highest = MARGIN, 0.0
        for panel, begin in zip(line, begins, strict=False):
            x += NAMES if dots else TICKS + LABEL + 0.1 if begin else GAP_X
            own = 0.3 + 0.2 * len(panel.points) if dots else high
            panel.box = (x, top, wide, own)
            x, highest = x + wide, max(highest, own)
        right = max(right, x)
        labels = any(panel.lowest for panel in line)
        top += highest + TICKS + GAP_Y + (LABEL if labels else 0)
    height = TITLE + max(top, 0.4 + YEAR * years) + CAPTION
    for panel in panels:
        x, down, wide, high = panel.box
        panel.box = (x, height - TITLE - down - high, wide, high)
    return max(right + LEGEND, 5.5), height


def wrapped(text: str, inches: float) -> list[str]:
    return textwrap.wrap(text, max(16, int(15.5 * inches)))


def _lines(panels: Sequence[Panel], columns: int) -> list[list[Panel]]:
    """The panels line by line, and which of them have the labels of the axes. A measure
    that fills a line begins a new one.
    """
    lines: list[list[Panel]] = [[]]
    for i, panel in enumerate(panels):
        line, rest = lines[-1], panels[i : i + columns]
        fills = len(rest) == columns and all(other.measure == panel.measure for other in rest)
        new = not line or line[-1].measure != panel.measure
        if len(line) == columns or (line and new and fills and len(panels) > columns):
            lines.append([])
        lines[-1].append(panel)
        panel.first = len(lines[-1]) == 1 or new
    for line, below in zip(lines, [*lines[1:], []], strict=True):
        for i, panel in enumerate(line):
            panel.lowest = i >= len(below) or below[i].measure != panel.measure
    return lines
