"""Where a captioner looks: its attention drawn over the photo, word by word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.files import replaced

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

COLUMNS = 5
INCHES = 1.9  # a panel's longer side
SIDE = 400  # pixels of the photo's longer side, at most
DARK = 0.75  # of the grey photo's brightness, so that the colours stand out
STRONGEST = 0.7  # opacity of the colour where a word looks most
HEAT = "inferno"
TINY = 1e-12


def draw_attention(
    image: Image,
    words: Sequence[str],
    attention: Tensor,
    grid: tuple[int, int],
    path: str | Path,
    *,
    title: str = "",
) -> None:
    """Write a picture, .png or .svg: the photo, then a panel per word, the photo in
    grey under the weights of this word, (T, L), which lie row by row on `grid` (H', W')
    and are made as large as the photo by a smooth function. `image` is what the network
    saw: the crop, not the whole photo. Each panel has its own scale, from 0 to its
    largest weight, which stands below.

    Raises InputError for weights that do not fit the words or the grid.
    """
    from matplotlib.figure import Figure

    height, width = grid
    if attention.shape != (len(words), height * width) or not words:
        raise InputError(
            f"attention of shape {tuple(attention.shape)}: expected ({len(words)}, "
            f"{height * width}) for {len(words)} words on a grid of {height}x{width}"
        )
    photo = image.convert("RGB")
    photo.thumbnail((SIDE, SIDE))
    columns = min(COLUMNS, len(words) + 1)
    rows = math.ceil((len(words) + 1) / columns)
    across, down = (INCHES * side / max(photo.size) for side in photo.size)
    size = (columns * (across + 0.1) + 0.1, rows * (down + 0.45) + (0.4 if title else 0.1))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11, wrap=True)
    first, *places = figure.subplots(rows, columns, squeeze=False).flat
    for axes in (first, *places):
        axes.set_axis_off()
    first.imshow(photo)
    grey = photo.convert("L").point(lambda value: DARK * value)
    for axes, word, weights in zip(places, words, attention, strict=False):
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
        heat = _enlarged(weights.view(height, width), photo.size)
        axes.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=STRONGEST * heat)
        axes.set_title(word, fontsize=11)
        largest = f"{100 * weights.max().item():.0f}\N{NO-BREAK SPACE}%"
        axes.text(0.5, -0.03, largest, ha="center", va="top", fontsize=7, transform=axes.transAxes)
    with replaced(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:])


def _enlarged(weights: Tensor, size: tuple[int, int]) -> Any:
    """(H', W') as large as a photo of this (width, height), over the largest weight."""
    import numpy
    from PIL import Image

    small = Image.fromarray(weights.detach().float().cpu().numpy())
    large = numpy.asarray(small.resize(size, Image.Resampling.BICUBIC))
    return (large / max(weights.max().item(), TINY)).clip(0, 1)
