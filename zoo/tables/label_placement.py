"""Where to write the names of bubbles so that they cover each other as little as
possible. Lengths in any unit, such as pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

Box = tuple[float, float, float, float]  # left, bottom, right, top

GAP, STEP, RINGS, DIRECTIONS = 3.0, 14.0, 5, 16


def place(
    bubbles: Sequence[tuple[float, float, float]], sizes: Sequence[tuple[float, float]], frame: Box
) -> list[tuple[float, float]]:
    """The centre of each label, near its bubble (x, y, radius); `sizes` are the labels'
    widths and heights, `frame` is where they fit.
    """
    discs = [(x - 0.8 * r, y - 0.8 * r, x + 0.8 * r, y + 0.8 * r) for x, y, r in bubbles]
    taken: list[Box] = []
    found: dict[int, tuple[float, float]] = {}
    for i in sorted(
        range(len(bubbles)), key=lambda i: bubbles[i][2]
    ):  # the small ones have the fewest good places
        (x, y, _), (width, height) = bubbles[i], sizes[i]

        def cost(
            centre: tuple[float, float],
            x: float = x,
            y: float = y,
            width: float = width,
            height: float = height,
        ) -> float:
            box = _around(centre, width, height)
            outside = width * height - _common(box, frame)
            return (
                20 * outside
                + 6 * sum(_common(box, other) for other in taken)
                + sum(_common(box, disc) for disc in discs)
                + 2 * math.dist(centre, (x, y))
            )

        found[i] = min(_candidates(bubbles[i], sizes[i]), key=cost)
        taken.append(_around(found[i], width, height))
    return [found[i] for i in range(len(bubbles))]


def _candidates(
    bubble: tuple[float, float, float], size: tuple[float, float]
) -> Iterator[tuple[float, float]]:
    (x, y, r), (width, height) = bubble, size
    for ring in range(RINGS):
        for direction in range(DIRECTIONS):
            angle = 2 * math.pi * direction / DIRECTIONS
            away = r + GAP + ring * STEP
            yield (
                x + math.cos(angle) * (away + width / 2),
                y + math.sin(angle) * (away + height / 2),
            )


def _around(centre: tuple[float, float], width: float, height: float) -> Box:
    return (
        centre[0] - width / 2,
        centre[1] - height / 2,
        centre[0] + width / 2,
        centre[1] + height / 2,
    )


def _common(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
