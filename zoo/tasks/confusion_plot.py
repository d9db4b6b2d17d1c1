"""Which classes a network takes for which, as a picture: the matrix of a few classes,
of many the pairs that are confused most.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

CELLS = 25  # classes of a matrix that can be read
PAIRS = 25  # lines of the chart of pairs
LETTERS = 28  # of a class name
BAR = "#d95f02"


def draw_confusion(matrix: Tensor, classes: Sequence[str], path: Path, *, title: str = "") -> None:
    """Write a PNG of counts (true, predicted)."""
    from matplotlib.figure import Figure

    names = [_shortened(name) for name in classes]
    few = len(classes) <= CELLS
    side = max(4.0, 0.42 * len(names) + 1.5) if few else 0.0
    longest = 0.075 * max(map(len, names))
    size = (side + longest, side + 0.6 * longest) if few else (8.5, 0.26 * PAIRS + 1.2)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    (_draw_matrix if few else _draw_pairs)(axes, matrix, names)
    figure.savefig(path, format="png")


def _draw_matrix(axes: Axes, matrix: Tensor, names: Sequence[str]) -> None:
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(names) <= 12 else 7
    for row in range(len(names)):
        for column in range(len(names)):
            if count := int(matrix[row, column]):
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(
                    column, row, f"{count}", ha="center", va="center", fontsize=size, color=colour
                )
    places = range(len(names))
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.set_xlabel("predicted (dark: a large share of the true class)")
    axes.set_ylabel("true")


def _draw_pairs(axes: Axes, matrix: Tensor, names: Sequence[str]) -> None:
    wrong = matrix.clone().fill_diagonal_(0)
    counts, places = wrong.flatten().topk(min(PAIRS, wrong.numel()))
    counts = counts[counts > 0]
    if not len(counts):
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no image is taken for another class", ha="center", va="center")
        return
    labels = []
    for place in places[: len(counts)].tolist():
        true, predicted = divmod(place, len(names))
        labels.append(f"{names[true]} → {names[predicted]}  (of {int(matrix[true].sum())})")
    bars = axes.barh(range(len(labels)), counts.tolist(), color=BAR)
    axes.set_yticks(range(len(labels)), labels)
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"images; the {len(counts)} most confused pairs: true → predicted")
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(y=0.01)
    axes.spines[["top", "right"]].set_visible(False)


def _shortened(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
