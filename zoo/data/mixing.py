"""Labels as shares of the classes, and pairs of images made one: label smoothing, mixup
and cutmix. All draws come from torch's global generator on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta

from zoo.data.labels import is_labelled
from zoo.errors import InputError, UsageError


@dataclass(frozen=True)
class Mixing:
    """What is done to a batch of images and class numbers in training.

    `label_smoothing` spreads this part of every label evenly over all classes
    (Inception-v3, section 7). `mixup` and `cutmix` are the parameters a of Beta(a, a),
    0: not at all; with both, a batch gets one of them by even chance. Raises InputError
    where the number of `classes` is not known.
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    classes: int = 0

    def __post_init__(self) -> None:
        if self and not self.classes:
            raise InputError(
                "label_smoothing, mixup and cutmix need the number of classes: name them with "
                "classes=…"
            )

    def __bool__(self) -> bool:
        return bool(self.label_smoothing or self.mixup or self.cutmix)

    def __call__(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Images (N, …) and the shares of the classes (N, classes) in them. Raises
        UsageError for a batch that has no class numbers.
        """
        if not is_labelled(batch):
            raise UsageError(
                "label_smoothing, mixup and cutmix need batches of images and class numbers"
            )
        images, labels = batch
        shares = F.one_hot(labels, self.classes).float()
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / self.classes
        cut = bool(self.cutmix) and (not self.mixup or torch.rand(()).item() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        if not alpha:
            return images, shares
        order = torch.randperm(len(images)).to(images.device)
        part = Beta(alpha, alpha).sample().item()
        if cut:
            images, part = _cut(images, images[order], part)
        else:
            images = images * part + images[order] * (1 - part)
        return images, shares * part + shares[order] * (1 - part)


def _cut(images: Tensor, others: Tensor, part: float) -> tuple[Tensor, float]:
    """`images` with a rectangle of `others`, of 1 - `part` of the area, its centre
    anywhere (CutMix, arXiv:1905.04899, eq. 2); and the part that is left.
    """
    height, width = images.shape[-2:]
    side = math.sqrt(1 - part)
    row, column = (torch.rand(2) * torch.tensor([height, width])).int().tolist()
    high, wide = int(height * side), int(width * side)
    top, bottom = max(row - high // 2, 0), min(row + high // 2, height)
    left, right = max(column - wide // 2, 0), min(column + wide // 2, width)
    images = images.clone()
    images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)
