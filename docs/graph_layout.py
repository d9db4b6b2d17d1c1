"""Where the boxes of a picture lie: a directed graph in rows from top to bottom, its
chains straight, its lines beside the boxes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Place = Hashable  # a box, or (box, row): where its line passes a row
Line = tuple[Place, Place]
SWEEPS = 60


@dataclass(frozen=True)
class Layout:
    """`rows` of places from left to right; `lines` between neighbouring rows; the `x`
    of each place's middle.
    """

    rows: list[list[Place]]
    lines: list[Line]
    x: dict[Place, float]


def layout(
    sources: Mapping[Place, Sequence[Place]], widths: Mapping[Place, float], gap: float
) -> Layout:
    """Lay out boxes of these widths, each with the boxes that its lines come from and
    after all of them.
    """
    rows, lines = _rows(sources)
    rows = _ordered(rows, lines)
    return Layout(rows, lines, _columns(rows, lines, widths, gap))


def neighbours(lines: Iterable[Line]) -> tuple[dict[Place, list[Place]], dict[Place, list[Place]]]:
    """The places above and below each place."""
    above: dict[Place, list[Place]] = defaultdict(list)
    below: dict[Place, list[Place]] = defaultdict(list)
    for upper, lower in lines:
        above[lower].append(upper)
        below[upper].append(lower)
    return above, below


def _rows(sources: Mapping[Place, Sequence[Place]]) -> tuple[list[list[Place]], list[Line]]:
    """A box lies as far down as its longest way from the input. A line over several
    rows has a place in each of them; all lines from one box share it.
    """
    rank: dict[Place, int] = {}
    for box, before in sources.items():
        rank[box] = max((rank[source] + 1 for source in before), default=0)
    rows: list[list[Place]] = [[] for _ in range(max(rank.values()) + 1)]
    lines: list[Line] = []
    for box, before in sources.items():
        rows[rank[box]].append(box)
        for source in before:
            above = source
            for row in range(rank[source] + 1, rank[box]):
                place = (source, row)
                if place not in rows[row]:
                    rows[row].append(place)
                    lines.append((above, place))
                above = place
            lines.append((above, box))
    return rows, lines


def _ordered(rows: list[list[Place]], lines: Sequence[Line]) -> list[list[Place]]:
    """Sort each row by the mean position of its neighbours above, then of those below,
    and so on; what crosses least stays.
    """
    above, below = neighbours(lines)
    best = rows
    for sweep in range(8):
        near = below if sweep % 2 else above
        rows = [list(row) for row in rows]
        position = {place: float(i) for row in rows for i, place in enumerate(row)}
        for row in reversed(rows) if sweep % 2 else rows:
            row.sort(
                key=lambda place: _mean([position[other] for other in near[place]], position[place])
            )
            position |= {place: float(i) for i, place in enumerate(row)}
        best = min(best, rows, key=lambda order: _crossings(order, below))
    return best


def _crossings(rows: Iterable[Sequence[Place]], below: Mapping[Place, Sequence[Place]]) -> int:
    position = {place: i for row in rows for i, place in enumerate(row)}
    count = 0
    for row in rows:
        ends = [(i, position[other]) for i, place in enumerate(row) for other in below[place]]
        count += sum(a < c and b > d for a, b in ends for c, d in ends)
    return count


def _columns(
    rows: Sequence[Sequence[Place]],
    lines: Sequence[Line],
    widths: Mapping[Place, float],
    gap: float,
) -> dict[Place, float]:
    """The x of each place. A chain, places with one line in and one out, is one
    straight column, and so is a line past several rows. Each column, and each group of
    columns that have one above or below in common, is pulled to the columns that it is
    tied to as far as those beside it allow.
    """
    above, below = neighbours(lines)
    column: dict[Place, Place] = {}  # the first place of its chain
    for before, row in pairwise([[], *rows]):
        last = -1
        for place in row:
            only = above[place][0] if len(above[place]) == 1 else None
            straight = only is not None and (
                len(below[only]) == 1 or (only not in widths and place not in widths)
            )
            if straight and before.index(only) > last:  # chains that cross end there
                column[place], last = column[only], before.index(only)
            else:
                column[place] = place
    apart: dict[Line, float] = {}  # the least distance of two columns side by side
    for row in rows:
        for a, b in pairwise(row):
            pair, distance = (column[a], column[b]), (widths.get(a, 0) + widths.get(b, 0)) / 2 + gap
            apart[pair] = max(distance, apart.get(pair, 0))
    left, right = neighbours(apart)
    tied_up, tied_down = neighbours(
        {(column[a], column[b]): None for a, b in lines if column[a] != column[b]}
    )
    x: dict[Place, float] = dict.fromkeys(column.values(), 0.0)
    for _ in x:  # as far to the left as can be
        x |= {b: max(x[b], x[a] + distance) for (a, b), distance in apart.items()}
    order = sorted(x, key=lambda place: x[place])
    groups = [[place] for place in order] + [
        list(group) for ties in (tied_up, tied_down) for group in ties.values() if len(group) > 1
    ]
    for sweep in range(SWEEPS):
        for group in groups if sweep % 2 else reversed(groups):
            shift = sum(_pull(x, place, tied_up, tied_down) for place in group) / len(group)
            least = max(
                (x[o] + apart[o, p] - x[p] for p in group for o in left[p] if o not in group),
                default=-math.inf,
            )
            most = min(
                (x[o] - apart[p, o] - x[p] for p in group for o in right[p] if o not in group),
                default=math.inf,
            )
            for place in group:
                x[place] += min(max(shift, least), most)
    return {place: x[first] for place, first in column.items()}


def _pull(
    x: Mapping[Place, float],
    place: Place,
    up: Mapping[Place, list[Place]],
    down: Mapping[Place, list[Place]],
) -> float:
    """How far a column is from the middle of those that it is tied to; one that is tied
    to many counts less.
    """
    ties = [(x[other], len(down[other])) for other in up[place]] + [
        (x[other], len(up[other])) for other in down[place]
    ]
    return (
        sum(at / many for at, many in ties) / sum(1 / many for _, many in ties) - x[place]
        if ties
        else 0.0
    )


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
