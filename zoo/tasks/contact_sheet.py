"""Images side by side, enlarged, each with what a network takes it for."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = 5
SMALL = 100  # pixels: smaller images are enlarged pixel by pixel
INCHES = 1.7  # an image's side
LETTERS = 28  # of a line above an image: what its width has room for
GREY, RIGHT, WRONG = "#222222", "#1b6e3c", "#b3261e"


class Panel(NamedTuple):
    """An image in 8-bit RGB or grey. `truth`: its class, "" where that is not known;
    `share`: the probability of the predicted one, None of a caption.
    """

    image: Image
    predicted: str
    share: float | None = None
    truth: str = ""

    @property
    def text(self) -> str:
        share = "" if self.share is None else f" ({100 * self.share:.1f}\N{NO-BREAK SPACE}%)"
        predicted = f"{self.predicted}{share}"
        given = [f"true: {self.truth}", f"predicted: {predicted}"] if self.truth else [predicted]
        return "\n".join(line for text in given for line in textwrap.wrap(text, LETTERS))

    @property
    def colour(self) -> str:
        if not self.truth:
            return GREY
        return RIGHT if self.predicted == self.truth else WRONG


def draw_sheet(panels: Sequence[Panel], path: Path, form: str = "png", title: str = "") -> None:
    """Write a picture of one panel or more, `form` png or svg."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    lines = max(panel.text.count("\n") + 1 for panel in panels)
    height = rows * (INCHES + 0.25 + 0.15 * lines) + 0.2 + (0.3 if title else 0)
    figure = Figure(figsize=(columns * (INCHES + 0.3) + 0.2, height), dpi=120, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11)
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places:
        axes.set_axis_off()
    for axes, panel in zip(places, panels, strict=False):
        small = max(panel.image.size) < SMALL
        shown = panel.image.convert("RGB")
        axes.imshow(shown, interpolation="nearest" if small else "antialiased")
        axes.set_title(panel.text, fontsize=9, color=panel.colour)
    figure.savefig(path, format=form)
