"""The picture of a run: loss and accuracy of the training and the held-out images over
the epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

COLOURS = {
    "train": "#1f77b4",
    "val": "#d95f02",
}  # told apart by colour-blind readers and in grey print
LABELS = {"train": "training", "val": "held out"}


def draw_curves(history: Sequence[Mapping[str, float]], best: dict[str, float], path: Path) -> None:
    """Write a PNG with the record `best` marked; accuracy is left out where the run has
    none.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metrics = [name for name in ("loss", "accuracy") if f"val_{name}" in history[0]]
    figure = Figure(figsize=(5 * len(metrics), 3.8), dpi=120, layout="constrained")
    epochs = [record["epoch"] for record in history]
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        scale = 100 if metric == "accuracy" else 1
        for part, colour in COLOURS.items():
            values = [record[f"{part}_{metric}"] * scale for record in history]
            axes.plot(epochs, values, color=colour, marker="o", markersize=3, label=LABELS[part])
        axes.axvline(
            best["epoch"], color="grey", linestyle=":", label=f"best epoch: {best['epoch']}"
        )
        axes.set_title(
            f"held out, best epoch: {best[f'val_{metric}'] * scale:.4g}{' %' * (scale > 1)}",
            fontsize=10,
        )
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy (%)" if scale > 1 else "loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, format="png")
