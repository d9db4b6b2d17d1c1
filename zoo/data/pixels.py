"""Images of one size in memory, as one tensor of bytes: whole batches are taken out of
it and prepared at once, on whatever device they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from zoo.data.augment import AUGMENTATIONS, DRAWS
from zoo.errors import check_choice
from zoo.spec import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

MASK = 0xFFFFFFFF  # of 32 bits


class PixelBatch(NamedTuple):
    """Before its transform, which may run on another device."""

    data: Tensor  # (N, C, H, W) uint8
    targets: Tensor  # (N,) int64
    draws: Tensor  # (N, draws of the transform) in [0, 1)


class PixelDataset(Dataset[tuple[Any, int]]):
    """(image, class number) of `data` (N, C, H, W) uint8, with 1 or 3 channels. An item
    is a PIL image, or with a `transform` the input tensor (C, H, W); `batch` gives many
    at once, before the transform.
    """

    def __init__(
        self, data: Tensor, targets: Sequence[int], transform: PixelTransform | None = None
    ) -> None:
        self.data = data
        self.targets = list(targets)
        self.transform = transform
        self._numbers = torch.tensor(self.targets)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        pixels = self.data[index]
        if self.transform is None:
            return to_image(pixels), self.targets[index]
        return self.transform(pixels[None])[0], self.targets[index]

    def batch(self, indices: Sequence[int], key: tuple[int, int] | None = None) -> PixelBatch:
        """What is drawn for an example depends on `key`, its seed and epoch, and on its
        index alone; without a key nothing is drawn.
        """
        chosen = torch.tensor(indices)
        count = self.transform.draws if self.transform and key else 0
        draws = uniform(chosen, count, *(key or (0, 0)))
        return PixelBatch(self.data[chosen], self._numbers[chosen], draws)


class PixelBatches(Dataset[Any]):
    """A PixelDataset by (epoch, index), for a loader with `collate`: whole batches
    before their transform. With a `seed`, they are augmented.
    """

    def __init__(self, dataset: PixelDataset, seed: int | None) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int] | int) -> tuple[Any, int]:
        return self.dataset[place if isinstance(place, int) else place[1]]

    def __getitems__(self, places: Sequence[tuple[int, int]]) -> PixelBatch:
        key = None if self.seed is None else (self.seed, places[0][0])
        return self.dataset.batch([index for _, index in places], key)

    @staticmethod
    def collate(items: Any) -> Any:
        return items if isinstance(items, PixelBatch) else default_collate(items)


class PixelTransform:
    """(N, C, H, W) uint8 of the input's size to input tensors, on the same device: to
    [0, 1], augmented, minus the mean, over the standard deviation.

    `augment`: one of AUGMENTATIONS that `fits_pixels`. `draws` numbers in [0, 1) are
    needed for an image; those that are not given come from torch's global generator.
    """

    def __init__(self, preprocessing: Preprocessing, augment: str = "none") -> None:
        known = [each for each in AUGMENTATIONS if fits_pixels(each)]
        check_choice("PixelTransform", "augment", augment, known)
        self.preprocessing = preprocessing
        self.augmentation = AUGMENTATIONS[augment]
        height, width = preprocessing.input_size[1:]
        self.draws = 3 if self.augmentation.pad else 0
        if distortion := self.augmentation.distortion:
            self.draws = DRAWS + (2 * height * width if distortion.alpha else 0)

    def __call__(self, data: Tensor, draws: Tensor | None = None) -> Tensor:
        if draws is None:
            draws = torch.rand(len(data), self.draws, device=data.device)
        chosen = self.augmentation if draws.shape[1] else AUGMENTATIONS["none"]
        if chosen.pad:
            padding = round(chosen.pad * min(data.shape[2:]) / 32)
            data = pad_crop_mirror(data, draws, padding, reflect=chosen.reflect)
        scaled = data.to(torch.float32).mul_(1 / 255)
        if chosen.distortion:
            drawn = 2 * draws - 1
            field = (
                drawn[:, DRAWS:].view(-1, 2, *data.shape[2:]) if chosen.distortion.alpha else None
            )
            scaled = chosen.distortion.distorted(scaled, drawn[:, :DRAWS], field)
        wanted = self.preprocessing
        mean, std = (scaled.new_tensor(each).view(-1, 1, 1) for each in (wanted.mean, wanted.std))
        return scaled.sub_(mean).div_(std)


def fits_pixels(augment: str) -> bool:
    """Whether an augmentation begins with images of the input's size."""
    chosen = AUGMENTATIONS[augment]
    return not (chosen.part or chosen.scale or chosen.jitter or chosen.colours)


def pad_crop_mirror(
    data: Tensor, draws: Tensor, padding: int = 4, *, reflect: bool = False
) -> Tensor:
    """Cut images of the same size out of the padded ones, and mirror half of them."""
    count, channels, height, width = data.shape
    mode = "reflect" if reflect else "constant"
    padded = torch.nn.functional.pad(data, (padding,) * 4, mode=mode).flatten(2)
    top, left = (draws[:, :2] * (2 * padding + 1)).long().unbind(1)
    columns = torch.arange(width, device=data.device).expand(count, width)
    columns = torch.where(draws[:, 2:3] < 0.5, columns.flip(1), columns) + left[:, None]
    rows = torch.arange(height, device=data.device) + top[:, None]
    places = (rows[:, :, None] * (width + 2 * padding) + columns[:, None]).flatten(1)
    found = padded.gather(2, places[:, None].expand(-1, channels, -1))
    return found.view(count, channels, height, width)


def uniform(indices: Tensor, count: int, seed: int, epoch: int) -> Tensor:
    """(N, count) numbers in [0, 1): of each example (N,) its own, a function of seed,
    epoch and index alone, on any device the same.
    """
    key = 0
    for word in (seed & MASK, seed >> 32 & MASK, epoch & MASK):
        key = _mixed(key ^ word) + 0x9E3779B9 & MASK  # so that 0 is not left as it is
    numbers = _mixed(_mixed(indices & MASK) ^ key)[:, None] + torch.arange(
        count, device=indices.device
    )
    found = _mixed(_mixed(numbers & MASK) ^ key)
    return (found >> 8).to(torch.float32) * 2.0**-24


def _mixed(word: Any) -> Any:
    """The finalizer of MurmurHash3 (A. Appleby), of 32-bit words in int64 tensors, or
    of one as an int.
    """
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = word ^ word >> shift
        # in two parts, as the product of 64 bits would overflow
        word = (word & 0xFFFF) * factor + (((word >> 16) * factor & 0xFFFF) << 16) & MASK
    return word ^ word >> 16


def to_image(pixels: Tensor) -> Image:
    """A PIL image of (C, H, W) uint8."""
    from PIL import Image

    array = pixels.squeeze(0).numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array)
