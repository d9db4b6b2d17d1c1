"""How a network takes the images of a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from zoo.data.datasets import SMALL, DataSplit
from zoo.data.transforms import preprocessing_of
from zoo.errors import warn
from zoo.spec import ImageInput, Preprocessing

MIN_UPSCALED_SIZE = 32  # small images, for a network made for large ones that takes this size


def fit_preprocessing(model: nn.Module, split: DataSplit, size: Any = None) -> Preprocessing:
    """The preprocessing of a network for these images. Small ones are stretched to its
    size, or to a smaller one that it takes.
    """
    own = preprocessing_of(model)
    wanted = own if size is None else own.resized(size)
    if split.image_modes:
        _say_converted(split, wanted.input_size[0])
    if not split.small:
        return wanted
    height, width = wanted.input_size[1:]
    fixed, least = _size_limits(model)
    if size is None and not fixed and min(height, width) > 2 * SMALL:
        side = max(MIN_UPSCALED_SIZE, least)
        wanted = own.resized(side)
        assert split.size
        warn(
            f"the images are {split.size[0]}x{split.size[1]}: they are enlarged to {side}x{side}, "
            f"not {height}x{width} (input_size sets it)"
        )
    return replace(wanted, crop_mode="squash", crop_pct=1.0)


def _size_limits(model: nn.Module) -> tuple[bool, int]:
    """Whether a network takes one size only, and the smallest that it takes."""
    if isinstance(image := getattr(model, "image", None), ImageInput):
        return image.fixed, image.min_size
    known = getattr(model, "pretrained_cfg", None) or {}  # as in timm
    smallest = (known.get("min_input_size") or (0, 2 * MIN_UPSCALED_SIZE))[1]
    return bool(known.get("fixed_input_size")), smallest


def _say_converted(split: DataSplit, channels: int) -> None:
    plain, target = ("grey", "grey") if channels == 1 else ("colour", "RGB")
    other = {mode: count for mode, count in split.image_modes.most_common() if mode != plain}
    if other:
        modes = ", ".join(f"{count} {mode}" for mode, count in other.items())
        over = "; transparent parts become white" if "transparent" in other else ""
        warn(f"{sum(other.values())} images are converted to {target}: {modes}{over}")
