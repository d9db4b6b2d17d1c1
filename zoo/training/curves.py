"""The picture of a run: its metrics on the training and the validation data over the
epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.training.metrics import PARTS, ChartMetric

# told apart by colour-blind readers and in grey print
COLOURS = {"train": "#1f77b4", "val": "#d95f02"}
GREY = "#666666"


def draw_curves(
    history: Sequence[Mapping[str, float]],
    best: Mapping[str, float],
    path: Path,
    metrics: Sequence[ChartMetric] = (ChartMetric("loss"),),
    *,
    title: str = "",
    classes: int = 0,
) -> None:
    """Write a PNG with the record `best` marked; metrics that the run does not have are
    left out.

    `title`: the network and the data. `classes`: how many there are, for the accuracy
    that guessing has.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [metric for metric in metrics if f"val_{metric.name}" in history[0]]
    figure = Figure(figsize=(5 * len(shown), 3.8), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    epochs = [record["epoch"] for record in history]
    for axes, metric in zip(panels, shown, strict=True):
        for part, colour in COLOURS.items():
            name = f"{part}_{metric.name}"
            if name in history[0]:  # scores of a whole set are of the validation data alone
                values = [record[name] * metric.scale for record in history]
                axes.plot(epochs, values, color=colour, marker="o", markersize=3, label=PARTS[part])
        if metric.percent:
            axes.set_ylim(0, 102)  # the curve's top at 100 is seen whole
        if metric.chance and classes:
            chance = 100 / classes
            axes.axhline(
                chance, color=GREY, linestyle="--", linewidth=1, label=f"chance: {chance:.3g} %"
            )
        axes.axvline(best["epoch"], color=GREY, linestyle=":", label=f"best epoch: {best['epoch']}")
        value = metric.text(best[f"val_{metric.name}"])
        axes.set_title(f"validation {metric.name}, best epoch: {value}", fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric.axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    figure.savefig(path, format="png")
