"""JPEG files that cost as much to read as photos: soft coloured patches with noise."""

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image


def write_photos(folder: Path, classes: int, count: int, size: tuple[int, int]) -> None:
    """`count` files for each class, `size` (height, width)."""
    generator = torch.Generator().manual_seed(0)
    for number in range(classes):
        place = folder / f"class{number}"
        place.mkdir(parents=True)
        for index in range(count):
            patches = torch.rand(1, 3, 8, 8, generator=generator) * 255
            soft = F.interpolate(patches, size, mode="bilinear")[0].permute(1, 2, 0)
            noise = 12 * torch.randn(*size, 3, generator=generator)
            pixels = (soft + noise).clamp(0, 255).byte().numpy()
            Image.fromarray(pixels).save(place / f"{index:05d}.jpg", quality=90)
