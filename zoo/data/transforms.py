"""Preprocessing: from an image to the tensor that a network takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.data.augment import AUGMENTATIONS, RandomColourShift, geometry
from zoo.data.image import INTERPOLATIONS, convert, resized_side, stretched_sides, trim
from zoo.errors import InputError, check_choice
from zoo.spec import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

COLOUR_SAMPLE = 300  # images that the principal colours are computed from


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


def build_transform(
    preprocessing: Preprocessing,
    *,
    train: bool = False,
    augment: str = "photo",
    colours: Tensor | None = None,
) -> Callable[[Any], Any]:
    """torchvision v2 transform, image to tensor (C, H, W), as `preprocessing` says; in
    evaluation of PIL images it gives what `zoo.data.image.EvalTransform` gives.

    In training, as an entry of AUGMENTATIONS says; "none" is as in evaluation.
    `colours` are the `principal_colours` of the data, for those that shift them. Raises
    InputError for another one.
    """
    import torch
    from torchvision.transforms import InterpolationMode, v2

    check_choice("transforms", "augment", augment, AUGMENTATIONS)
    check_choice("transforms", "interpolation", preprocessing.interpolation, INTERPOLATIONS)
    chosen = AUGMENTATIONS[augment if train else "none"]
    channels, *size = preprocessing.input_size
    how = InterpolationMode(preprocessing.interpolation)
    side = resized_side(preprocessing)
    if chosen != AUGMENTATIONS["none"]:
        steps = geometry(chosen, size, side, how)
    elif preprocessing.crop_mode == "squash":
        sides = stretched_sides(preprocessing)[::-1]  # (H, W)
        steps = [v2.Resize(sides, how), v2.CenterCrop(size)]
    else:
        steps = [trim, v2.Resize(side, how), v2.CenterCrop(size)]
    steps = [
        Channels(channels),
        *steps,
        v2.ToImage(),
        v2.ToPureTensor(),
        v2.ToDtype(torch.float32, scale=True),
    ]
    if chosen.distortion:
        steps.append(chosen.distortion)
    if chosen.colours:
        if colours is None:
            raise InputError(
                f"augment={augment!r}: needs colours=principal_colours(data, channels)"
            )
        steps.append(RandomColourShift(colours))
    return v2.Compose([*steps, v2.Normalize(preprocessing.mean, preprocessing.std)])


def train_transform(
    preprocessing: Preprocessing, augment: str, dataset: Any
) -> Callable[[Any], Any]:
    """`build_transform` for training on a data set of (image, label), whose colours it
    looks at where that is needed.
    """
    colours = None
    if augment in AUGMENTATIONS and AUGMENTATIONS[augment].colours:
        colours = principal_colours(dataset, preprocessing.input_size[0])
    return build_transform(preprocessing, train=True, augment=augment, colours=colours)


def principal_colours(dataset: Any, channels: int) -> Tensor:
    """(C, C), a column per principal component of the pixels of a data set of (image,
    label), times its variance; of images in [0, 1], as on 0..255 the shifts would be
    larger than the range. From the pixels of some hundred images spread over the set.
    """
    import torch
    from torchvision.transforms.v2 import functional

    count = min(len(dataset), COLOUR_SAMPLE)
    pixels = []
    for number in range(count):
        image = Channels(channels)(dataset[number * len(dataset) // count][0])
        flat = functional.to_dtype(functional.to_image(image), torch.float64, scale=True).flatten(1)
        pixels.append(flat[:, :: max(flat.shape[1] // 1000, 1)])
    covariance = torch.cov(torch.cat(pixels, 1)).reshape(channels, channels)
    variances, vectors = torch.linalg.eigh(covariance)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * largest.sign()  # which of both is a library's choice
    return (vectors * variances.clamp(min=0)).float()


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
