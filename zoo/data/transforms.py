"""Preprocessing: from an image to the tensor that a network takes, by the keys of
timm's `pretrained_cfg`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.data.image import convert
from zoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

AUGMENTATIONS = ("photo", "small", "none")


class Channels:
    """8-bit RGB or grey of an image: a PIL image of any mode, or a tensor (..., 1 or 3,
    H, W).
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __call__(self, image: Any) -> Any:
        from PIL.Image import Image
        from torchvision.transforms.v2 import functional

        if isinstance(image, Image):
            return convert(image, self.channels)
        return (
            functional.rgb_to_grayscale(image)
            if self.channels == 1
            else functional.grayscale_to_rgb(image)
        )

    def __repr__(self) -> str:
        return f"Channels({self.channels})"


class Nudge:
    """Turn by up to `degrees`, move by up to `shift` of the size and scale by up to
    `zoom` at random; (C, H, W) floating point.

    What comes in from outside has the colour of the border, whatever it is:
    torchvision's RandomAffine brings in black.
    """

    def __init__(self, degrees: float = 10, shift: float = 0.08, zoom: float = 0.1) -> None:
        self.ranges = (
            math.radians(degrees),
            zoom,
            2 * shift,
            2 * shift,
        )  # shifts in units of half the size

    def __call__(self, image: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        drawn = 2 * torch.rand(4) - 1
        angle, zoom, right, down = (
            value * most for value, most in zip(drawn.tolist(), self.ranges, strict=True)
        )
        cos, sin = math.cos(angle) / (1 + zoom), math.sin(angle) / (1 + zoom)
        height, width = image.shape[-2:]
        back = torch.tensor(
            [[cos, -sin * height / width, right], [sin * width / height, cos, down]]
        )
        grid = F.affine_grid(back[None], [1, *image.shape], align_corners=False)
        return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]

    def __repr__(self) -> str:
        return "Nudge()"


def build_transform(
    cfg: Mapping[str, Any], *, train: bool = False, augment: str = "photo"
) -> Callable[[Any], Any]:
    """torchvision v2 transform, image to tensor (C, H, W), by cfg's `input_size`,
    `mean`, `std`, `interpolation` and

    - `crop_mode` "center": the shorter side becomes size / `crop_pct`, then the centre;
      "squash": stretched to the size.
    - in training, by `augment`: "photo" cuts out a random part (8 to 100 % of the area)
      and mirrors half of them; "small" turns, moves and scales a little and mirrors
      nothing, as mirrored digits are no digits; "none" is as in evaluation.
    """
    import torch
    from torchvision.transforms import InterpolationMode, v2

    if augment not in AUGMENTATIONS:
        raise InputError(f"augment={augment!r}: choose one of {', '.join(AUGMENTATIONS)}")
    channels, *size = cfg["input_size"]
    how = InterpolationMode(cfg["interpolation"])
    small = train and augment == "small"
    if train and augment == "photo":
        geometry = [v2.RandomResizedCrop(size, interpolation=how), v2.RandomHorizontalFlip()]
    elif small or cfg["crop_mode"] == "squash":
        geometry = [v2.Resize(size, how)]
    else:
        geometry = [v2.Resize(int(max(size) / cfg["crop_pct"]), how), v2.CenterCrop(size)]
    tensor = [v2.ToImage(), v2.ToPureTensor(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose(
        [
            Channels(channels),
            *geometry,
            *tensor,
            *[Nudge()] * small,
            v2.Normalize(cfg["mean"], cfg["std"]),
        ]
    )
