"""Preprocessing: from an image to the tensor that a network takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.data.image import INTERPOLATIONS, convert, resized_side, stretched_sides, trim
from zoo.errors import check_choice
from zoo.spec import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

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
        if self.channels == 1:
            return functional.rgb_to_grayscale(image)
        return functional.grayscale_to_rgb(image)

    def __repr__(self) -> str:
        return f"Channels({self.channels})"


class RandomAffineBorder:
    """`affine_border` at random; (C, H, W) floating point."""

    def __call__(self, image: Tensor) -> Tensor:
        import torch

        return affine_border(image[None], torch.rand(1, 4))[0]

    def __repr__(self) -> str:
        return "RandomAffineBorder()"


def affine_border(
    images: Tensor, draws: Tensor, degrees: float = 10, shift: float = 0.08, zoom: float = 0.1
) -> Tensor:
    """Turn each image (N, C, H, W) by up to `degrees`, scale it by up to `zoom` and
    move it by up to `shift` of the size; `draws` (N, 4) in [0, 1) say how much.

    What comes in from outside has the colour of the border, whatever it is:
    torchvision's RandomAffine brings in black.
    """
    import torch
    import torch.nn.functional as F

    # shifts are in units of half the size
    most = draws.new_tensor((math.radians(degrees), zoom, 2 * shift, 2 * shift))
    angle, scale, right, down = ((2 * draws - 1) * most).unbind(1)
    cos, sin = angle.cos() / (1 + scale), angle.sin() / (1 + scale)
    height, width = images.shape[-2:]
    back = torch.stack(
        [cos, -sin * (height / width), right, sin * (width / height), cos, down], 1
    ).view(-1, 2, 3)
    grid = F.affine_grid(back, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def build_transform(
    preprocessing: Preprocessing, *, train: bool = False, augment: str = "photo"
) -> Callable[[Any], Any]:
    """torchvision v2 transform, image to tensor (C, H, W), as `preprocessing` says; in
    evaluation of PIL images it gives what `zoo.data.image.EvalTransform` gives.

    In training, by `augment`: "photo" cuts out a random part (8 to 100 % of the area)
    and mirrors half of them; "small" turns, moves and scales a little and mirrors
    nothing, as mirrored digits are no digits; "none" is as in evaluation. Raises
    InputError for another one.
    """
    import torch
    from torchvision.transforms import InterpolationMode, v2

    check_choice("transforms", "augment", augment, AUGMENTATIONS)
    check_choice("transforms", "interpolation", preprocessing.interpolation, INTERPOLATIONS)
    channels, *size = preprocessing.input_size
    how = InterpolationMode(preprocessing.interpolation)
    small = train and augment == "small"
    if train and augment == "photo":
        geometry = [v2.RandomResizedCrop(size, interpolation=how), v2.RandomHorizontalFlip()]
    elif small:
        geometry = [v2.Resize(size, how)]
    elif preprocessing.crop_mode == "squash":
        sides = stretched_sides(preprocessing)[::-1]  # (H, W)
        geometry = [v2.Resize(sides, how), v2.CenterCrop(size)]
    else:
        geometry = [trim, v2.Resize(resized_side(preprocessing), how), v2.CenterCrop(size)]
    steps = [
        Channels(channels),
        *geometry,
        v2.ToImage(),
        v2.ToPureTensor(),
        v2.ToDtype(torch.float32, scale=True),
    ]
    if small:
        steps.append(RandomAffineBorder())
    return v2.Compose([*steps, v2.Normalize(preprocessing.mean, preprocessing.std)])


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """What a module takes: its own `preprocessing`, else by its `pretrained_cfg` as in
    timm, else ImageNet's; the channels are those of its first convolution.
    """
    from torch import nn

    own = getattr(model, "preprocessing", None)
    if isinstance(own, Preprocessing):
        return own
    known = Preprocessing.from_dict(getattr(model, "pretrained_cfg", None) or {})
    convolutions = (each for each in model.modules() if isinstance(each, nn.Conv2d))
    first = next(convolutions, None)
    return known.with_channels(first.in_channels) if first else known
