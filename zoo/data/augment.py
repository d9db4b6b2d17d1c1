"""How training images are varied at random, by name. All draws come from torch's global
generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.data.image import trim

if TYPE_CHECKING:
    from torch import Tensor

COLOUR_STD = 0.1  # of the principal colours' weights (AlexNet, section 4.1)
DRAWS = 8  # random numbers of a distortion
JITTER = 0.4  # brightness, contrast, saturation


class RandomDistortion:
    """Turn by up to `degrees`, move by up to `shift` of the size, scale by up to
    `zoom`, and besides horizontally and vertically by up to `stretch` each, lean by up
    to `shear` degrees, and bend: each pixel by a displacement from U(-1, 1), smoothed
    by a Gaussian of `sigma` pixels and multiplied by `alpha`; (C, H, W) floating point.

    Where it may turn and lean it does one of both. What comes in from outside has the
    colour of the border, whatever it is: torchvision's transforms bring in black.
    """

    def __init__(
        self,
        degrees: float = 0,
        shift: float = 0,
        zoom: float = 0,
        *,
        stretch: float = 0,
        shear: float = 0,
        sigma: float = 0,
        alpha: float = 0,
    ) -> None:
        self.degrees, self.shift, self.zoom = degrees, shift, zoom
        self.stretch, self.shear = stretch, shear
        self.sigma, self.alpha = sigma, alpha

    def __call__(self, image: Tensor) -> Tensor:
        import torch

        drawn = 2 * torch.rand(1, DRAWS) - 1
        field = 2 * torch.rand(1, 2, *image.shape[-2:]) - 1 if self.alpha else None
        return self.distorted(image[None], drawn, field)[0]

    def distorted(self, images: Tensor, drawn: Tensor, field: Tensor | None = None) -> Tensor:
        """A batch (N, C, H, W), each image by its own numbers in [-1, 1): `drawn` (N,
        DRAWS), and where it bends `field` (N, 2, H, W).
        """
        import torch
        import torch.nn.functional as F

        height, width = images.shape[-2:]
        back = torch.tensor([self._matrix(row, width / height) for row in drawn.tolist()])
        grid = F.affine_grid(back.to(images.device), list(images.shape), align_corners=False)
        if field is not None:
            smooth = _gaussian(height, self.sigma) @ field @ _gaussian(width, self.sigma)
            smooth = smooth * (2 * self.alpha / torch.tensor([[[width]], [[height]]]))
            grid = grid + smooth.permute(0, 2, 3, 1).to(images.device)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _matrix(self, drawn: Sequence[float], aspect: float) -> list[list[float]]:
        """From places in the new image to those in the old one, in units of half the
        size.
        """
        turn, zoom, right, down, horizontal, vertical, lean, coin = drawn
        angle, slope = math.radians(turn * self.degrees), 0.0
        if self.shear and (coin < 0 or not self.degrees):
            angle, slope = 0.0, math.tan(math.radians(lean * self.shear))
        cos, sin = math.cos(angle), math.sin(angle)
        wide = (1 + zoom * self.zoom) * (1 + horizontal * self.stretch)
        high = (1 + zoom * self.zoom) * (1 + vertical * self.stretch)
        return [
            [cos / wide, (cos * slope - sin) / wide / aspect, 2 * self.shift * right],
            [sin / high * aspect, (sin * slope + cos) / high, 2 * self.shift * down],
        ]

    def __repr__(self) -> str:
        return "RandomDistortion()"


@lru_cache
def _gaussian(size: int, sigma: float) -> Tensor:
    """(size, size): the product with it smooths a line of so many pixels."""
    import torch

    place = torch.arange(size)
    distance = (place - place[:, None]) / sigma
    return torch.exp(-0.5 * distance**2) / (sigma * math.sqrt(2 * math.pi))


class RandomColourShift:
    """Add to all pixels of an image (C, H, W) in [0, 1] the principal colours, weighted
    by their variances and by numbers from N(0, 0.1) (AlexNet, section 4.1).
    """

    def __init__(self, colours: Tensor) -> None:
        """`colours` as `principal_colours` gives them."""
        self.colours = colours

    def __call__(self, image: Tensor) -> Tensor:
        import torch

        weights = COLOUR_STD * torch.randn(len(self.colours))
        return image + (self.colours @ weights)[:, None, None]

    def __repr__(self) -> str:
        return "RandomColourShift()"


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to a training image, in this order."""

    part: bool = False  # 8 to 100 % of the area, sides 3:4 to 4:3 (GoogLeNet, section 6)
    # of the shorter side of evaluation, at random, and a random crop of the input size
    scale: tuple[float, float] | None = None
    pad: int = 0  # pixels on each side of 32x32 (in proportion), and a random crop
    reflect: bool = False  # pad with the image itself, not with black
    mirror: bool = False
    jitter: bool = False  # brightness, contrast and saturation
    colours: bool = False  # RandomColourShift
    distortion: RandomDistortion | None = None


AUGMENTATIONS = {
    "photo": Augmentation(part=True, mirror=True),
    "inception": Augmentation(part=True, mirror=True, jitter=True),
    "crop": Augmentation(scale=(1, 1)),
    "crop-mirror": Augmentation(scale=(1, 1), mirror=True),
    "alexnet": Augmentation(scale=(1, 1), mirror=True, colours=True),  # section 4.1
    "vgg": Augmentation(scale=(1, 2), mirror=True, colours=True),  # 256 to 512, section 3.1
    "resnet": Augmentation(scale=(1, 480 / 256), mirror=True, colours=True),  # section 3.4
    "cifar": Augmentation(pad=4, mirror=True),  # ResNet, section 4.2
    "cifar-reflect": Augmentation(pad=4, reflect=True, mirror=True),  # Wide ResNet, section 3
    "small": Augmentation(distortion=RandomDistortion(10, 0.08, 0.1)),
    # LeNet-5's shift, scale, squeeze and horizontal shear, as they are told; the ranges
    # are ours
    "affine": Augmentation(distortion=RandomDistortion(shift=0.08, stretch=0.15, shear=15)),
    # after Ciresan et al., as their figures are told, not verified: turned or sheared
    # by up to 15 degrees (all digits alike), stretched by 17.5 %, bent
    "elastic": Augmentation(
        distortion=RandomDistortion(15, stretch=0.175, shear=15, sigma=6, alpha=36)
    ),
    "none": Augmentation(),
}


def geometry(augmentation: Augmentation, size: list[int], side: int, how: Any) -> list[Any]:
    """torchvision's transforms to an image of the input's `size` (H, W); `side` is the
    shorter one in evaluation, `how` the interpolation.
    """
    from torchvision.transforms import v2

    steps: list[Any] = []
    if augmentation.part:
        steps.append(v2.RandomResizedCrop(size, interpolation=how))
    elif augmentation.scale:
        low, high = (round(side * factor) for factor in augmentation.scale)
        shorter = v2.RandomShortestSize([*range(low, high + 1)], interpolation=how)
        steps += [trim, shorter, v2.RandomCrop(size)]
    else:
        steps.append(v2.Resize(size, how))
    if augmentation.pad:
        mode = "reflect" if augmentation.reflect else "constant"
        pad = round(augmentation.pad * min(size) / 32)
        steps.append(v2.RandomCrop(size, padding=pad, padding_mode=mode))
    if augmentation.mirror:
        steps.append(v2.RandomHorizontalFlip())
    if augmentation.jitter:
        steps.append(v2.ColorJitter(JITTER, JITTER, JITTER))
    return steps
