"""Where to write the names of bubbles so that they cover each other as little as
possible. Lengths in any unit, such as pixels; a box is (left, bottom, right, top).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Bubble = tuple[float, float, float]  # x, y, radius

GAP, STEP, RINGS, DIRECTIONS = 4.0, 12.0, 7, 24
PASSES = 4  # in which each label may move, now that the others have a place
OUTSIDE, NAME, DISC, AWAY, SLANTED, CROSSED = 50, 12, 8, 2, 8, 1500  # what each of these costs
SHARE = 0.05, 0.2  # of a label, and of a bubble, that another label may cover


def place(
    bubbles: Sequence[Bubble],
    sizes: Sequence[tuple[float, float]],
    frame: tuple[float, float, float, float],
    rings: int = RINGS,
) -> list[tuple[float, float]]:
    """The centre of each label, near its bubble (x, y, radius); `sizes` are the labels'
    widths and heights, `frame` is where they fit, `rings` the distances to try.
    """
    discs = _discs(bubbles)
    candidates, costs = [], []
    for bubble, size in zip(bubbles, sizes, strict=True):
        boxes, cost = _candidates(bubble, size, rings)
        inside = _common(boxes, np.array([frame]))[:, 0]
        cost = cost + OUTSIDE * (size[0] * size[1] - inside)
        candidates.append(boxes)
        costs.append(cost + DISC * _common(boxes, discs).sum(1))
    # the small ones have the fewest good places
    order = sorted(range(len(bubbles)), key=lambda i: bubbles[i][2])
    found: dict[int, Any] = {}
    for _ in range(PASSES):
        for i in order:
            boxes = candidates[i]
            others = [j for j in found if j != i]
            placed = np.array([found[j] for j in others]).reshape(-1, 4)
            centres = np.array([bubbles[j] for j in others]).reshape(-1, 3)
            crossed = _crossed(_lines(boxes, np.array([bubbles[i]])), placed).sum(1)
            crossed += _crossed(_lines(placed, centres), boxes).sum(0)
            crowd = NAME * _common(boxes, placed).sum(1) + CROSSED * crossed
            found[i] = boxes[np.argmin(costs[i] + crowd)]
    boxes = [found[i] for i in range(len(bubbles))]
    return [(float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2) for box in boxes]


def crowded(
    bubbles: Sequence[Bubble],
    centres: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
) -> list[bool]:
    """Which labels cover an earlier one, or a bubble: better left out."""
    discs, kept, found = _discs(bubbles), np.empty((0, 4)), []
    areas = np.array([(1.8 * r) ** 2 for _, _, r in bubbles])
    for centre, (width, height) in zip(centres, sizes, strict=True):
        box = _boxes(np.array([centre]), width, height)
        name = _common(box, kept).sum() > SHARE[0] * width * height
        disc = (_common(box, discs) > SHARE[1] * areas).any()
        found.append(bool(name or disc))
        if not found[-1]:
            kept = np.concatenate([kept, box])
    return found


def _candidates(bubble: Bubble, size: tuple[float, float], rings: int) -> tuple[Any, Any]:
    """The boxes that a label can have, and what their distance costs."""
    (x, y, r), (width, height) = bubble, size
    ring, direction = map(np.ravel, np.mgrid[0:rings, 0:DIRECTIONS])
    angle = 2 * np.pi * direction / DIRECTIONS
    away = r + GAP + ring * STEP
    across, up = np.cos(angle), np.sin(angle)
    centres = np.stack([x + across * (away + width / 2), y + up * (away + height / 2)], 1)
    # straight beside the bubble, or above or below it, is read best
    cost = AWAY * (1 + ring) * (GAP + ring * STEP) + SLANTED * np.abs(across * up)
    return _boxes(centres, width, height), cost


def _lines(boxes: Any, bubbles: Any) -> Any:
    """Points on the lines from bubbles to the middle of their labels."""
    part = np.linspace(0, 0.9, 10)[None, :, None]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return part * middle[:, None] + (1 - part) * bubbles[:, None, :2]


def _crossed(lines: Any, boxes: Any) -> Any:
    """Which lines (in the rows) cross which boxes (in the columns)."""
    above = (lines[:, :, None] > boxes[None, None, :, :2]).all(3)
    below = (lines[:, :, None] < boxes[None, None, :, 2:]).all(3)
    return (above & below).any(1)


def _boxes(centres: Any, width: float, height: float) -> Any:
    half = np.array([width / 2, height / 2])
    return np.concatenate([centres - half, centres + half], 1)


def _discs(bubbles: Sequence[Bubble]) -> Any:
    """The boxes of the bubbles, nearly as large as they are."""
    return np.array([(x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r) for x, y, r in bubbles])


def _common(a: Any, b: Any) -> Any:
    """The areas that boxes share: those of `a` in the rows, those of `b` in the
    columns.
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)
