"""The 1,797 real handwritten digits of 8x8 pixels that scikit-learn ships: the test
part of UCI's Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998).
They need no download.

`python -m zoo.data.digits FOLDER [COUNT]` writes some of the validation digits as PNG
files, in a folder per class.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from zoo.data.datasets import DataSplit, ImageDataset
from zoo.data.splits import Fractions
from zoo.errors import UsageError


@cache
def _load() -> tuple[tuple[Any, ...], tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Images, their digits, and the indices for training and for validation."""
    import numpy
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, digits = load_digits(return_X_y=True)  # ink from 0 to 16
    grey = numpy.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(numpy.uint8)
    parts = train_test_split(
        numpy.arange(len(digits)), test_size=0.2, stratify=digits, random_state=0
    )
    return (
        tuple(map(Image.fromarray, grey)),
        tuple(digits.tolist()),
        tuple(tuple(sorted(part.tolist())) for part in parts),
    )


def open_digits(
    val_fraction: float | None = None, test_fraction: float | None = None, seed: int = 0
) -> DataSplit:
    """1,437 digits for training and 360 for validation: always the same stratified
    fifth, so that accuracies compare. A part of the 1,437 to test on is on request.
    """
    if val_fraction is not None:
        raise UsageError(
            "val_fraction: digits has a fixed fifth for validation, so that accuracies compare"
        )
    fractions = Fractions.checked(None, test_fraction, own=["val"])
    images, digits, (train, val) = _load()
    chosen = fractions.divide([digits[index] for index in train], seed)
    parts: dict[str, Any] = {"val": val}
    parts |= {part: [train[index] for index in indices] for part, indices in chosen.items()}
    for part, indices in parts.items():
        parts[part] = ImageDataset([images[i] for i in indices], [digits[i] for i in indices])
    words = fractions.words(seed)
    return DataSplit(
        name="digits",
        source="digits (scikit-learn)",
        split="a fixed stratified fifth for validation"
        + (f"; of the others {words}" if words else ""),
        **parts,
        classes=tuple(map(str, range(10))),
        size=(8, 8),
    )


def export_digits(folder: str | Path, count: int = 10) -> list[Path]:
    """Write `count` validation digits, each class in turn, as PNG files in the folder
    of their class: `3/0042.png`.
    """
    images, digits, (_, val) = _load()
    queues = [[index for index in val if digits[index] == digit] for digit in range(10)]
    rounds = max(map(len, queues))
    order = [queue[turn] for turn in range(rounds) for queue in queues if turn < len(queue)]
    if not 1 <= count <= len(order):
        raise UsageError(f"count={count}: there are 1 to {len(order)} validation digits to write")
    paths = []
    for index in order[:count]:
        paths.append(Path(folder, str(digits[index]), f"{index:04d}.png"))
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        images[index].save(paths[-1])
    return paths


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: python -m zoo.data.digits FOLDER [COUNT]")
    for path in export_digits(sys.argv[1], *map(int, sys.argv[2:])):
        print(path)
