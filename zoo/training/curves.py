"""The picture of a run: its metrics on the training and the validation data over the
epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.training.metrics import ChartMetric

# told apart by colour-blind readers and in grey print
COLOURS = {"train": "#1f77b4", "val": "#d95f02"}
LABELS = {"train": "training", "val": "validation"}


def draw_curves(
    history: Sequence[Mapping[str, float]],
    best: Mapping[str, float],
    path: Path,
    metrics: Sequence[ChartMetric] = (ChartMetric("loss"),),
) -> None:
    """Write a PNG with the record `best` marked; metrics that the run does not have are
    left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [metric for metric in metrics if f"val_{metric.name}" in history[0]]
    figure = Figure(figsize=(5 * len(shown), 3.8), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    epochs = [record["epoch"] for record in history]
    for axes, metric in zip(panels, shown, strict=True):
        for part, colour in COLOURS.items():
            name = f"{part}_{metric.name}"
            if name in history[0]:  # scores of a whole set are of the validation data alone
                values = [record[name] * metric.scale for record in history]
                axes.plot(
                    epochs, values, color=colour, marker="o", markersize=3, label=LABELS[part]
                )
        marked = f"best epoch: {best['epoch']}"
        axes.axvline(best["epoch"], color="grey", linestyle=":", label=marked)
        value = f"{best[f'val_{metric.name}'] * metric.scale:.4g}"
        unit = " %" if metric.percent else ""
        axes.set_title(f"validation, best epoch: {value}{unit}", fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric.axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, format="png")
