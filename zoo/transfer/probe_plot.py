"""Pictures of probes: accuracy against depth, and the weights of pixels as images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from zoo.errors import UsageError
from zoo.files import replaced
from zoo.training.curves import COLOURS

COLUMNS = 5  # of templates


def draw_depth(
    points: Mapping[str, tuple[float | None, float]], path: Path, *, title: str = ""
) -> None:
    """Write a PNG of the accuracies per stage, from 0 to 1: by cross-validation on the
    training images, where there was one, and on the validation images.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 0.8 * len(points) + 2), 3.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    names = list(points)
    own = [100 * first for first, _ in points.values() if first is not None]
    if len(own) == len(names):
        label = "cross-validation on the training images"
        axes.plot(names, own, color=COLOURS["train"], marker="o", markersize=4, label=label)
    shown = [100 * second for _, second in points.values()]
    axes.plot(names, shown, color=COLOURS["val"], marker="o", markersize=4, label="validation")
    axes.set_title(title, fontsize=10)
    axes.set_ylabel("accuracy (%)")
    axes.tick_params(axis="x", labelrotation=45)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_templates(
    head: nn.Module, size: tuple[int, int, int], classes: Sequence[str], path: Path
) -> None:
    """Write a PNG of the weights that a linear head on the stage `input` has for each
    class, as an image of the size (C, H, W): the lowest is black, the highest white.

    Raises UsageError for another head.
    """
    from matplotlib.figure import Figure

    channels, height, width = size
    if not isinstance(head, nn.Linear) or head.in_features != channels * height * width:
        raise UsageError(
            f"templates are the weights of a linear head on {channels}x{height}x{width} pixels "
            "(--strategy probe, head linear or svm, stage input)"
        )
    weights = head.weight.detach().float().cpu().view(-1, channels, height, width)
    low, high = weights.amin((1, 2, 3), True), weights.amax((1, 2, 3), True)
    images = ((weights - low) / (high - low).clamp_min(1e-12)).permute(0, 2, 3, 1)
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(1.6 * COLUMNS, 1.8 * rows), dpi=120, layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for axes, image, name in zip(panels, images, classes, strict=False):
        axes.imshow(image.numpy(), cmap="gray" if channels == 1 else None)
        axes.set_title(name, fontsize=8)
    for axes in figure.axes:
        axes.set_axis_off()
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png")
