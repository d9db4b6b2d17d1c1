"""The parts of cross-validation."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import InputError, warn


def stratified_folds(y: Tensor, folds: int, seed: int = 0) -> Tensor:
    """The part (N,), from 0 to `folds` - 1, that each row belongs to: of each class
    about as many in every part. Fewer parts where the smallest class has fewer rows;
    depends on the seed alone.

    Raises InputError for fewer than two parts, and for a class of a single row.
    """
    if folds < 2:
        raise InputError(f"folds={folds}: cross-validation needs two or more")
    labels = y.cpu()
    numbers, counts = torch.unique(labels, return_counts=True)
    least = int(counts.min())
    if least < 2:
        raise InputError(
            f"class {int(numbers[counts.argmin()])} has one image for training: cross-validation "
            "needs two of each class; name one value instead"
        )
    if least < folds:
        warn(f"the smallest class has {least} images: {least} folds in place of {folds}")
        folds = least
    generator = torch.Generator().manual_seed(seed)
    parts = torch.empty_like(labels)
    start = 0
    for number in numbers:
        rows = (labels == number).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=generator)
        parts[rows[order]] = (torch.arange(len(rows)) + start) % folds
        start += len(rows)  # else all the larger parts would be the first ones
    return parts.to(y.device)


def held_out(parts: Tensor | None) -> list[Tensor]:
    """Which rows (N,) each part leaves out; none without parts."""
    return [] if parts is None else [parts == part for part in range(int(parts.max()) + 1)]
