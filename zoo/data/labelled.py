"""Labelled images to test on, whatever names or holds them."""

from __future__ import annotations

import os
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from zoo.data.datasets import ImageDataset, median_size, root_of
from zoo.data.digits import open_digits
from zoo.data.folder import list_test_part
from zoo.errors import UsageError, warn

CIFAR10_FOLDERS = ("cifar10", "cifar10_full")


@dataclass(frozen=True, kw_only=True)
class LabelledData:
    """Pairs of an image and a class number. `classes`: what the numbers mean, by name
    or WordNet id; (): they are the network's outputs. `images`: PIL images, which get
    the network's preprocessing; else tensors as it takes them.
    """

    source: str  # a folder, or a description
    data: Dataset[Any] | DataLoader[Any]
    classes: tuple[str, ...] = ()
    images: bool = True


def open_labelled(data: Any) -> LabelledData:
    """`digits` (its fifth for validation), `cifar10` (the test images in a folder of
    ZOO_DATA), a folder with a folder of images per class (of parts test/, else val/), a
    Dataset or a DataLoader. Raises UsageError and DataError.
    """
    if not isinstance(data, (str, os.PathLike)):
        return _from_dataset(data)
    if data in ("digits", "cifar10") and os.path.isdir(data):
        warn(f"{data!r} is the data set of that name; the folder is ./{data}")
    if data == "digits":
        digits = open_digits()
        source = "the 360 validation digits of scikit-learn"
        return LabelledData(source=source, data=digits.val, classes=digits.classes)
    folder, listing = list_test_part(_cifar10() if data == "cifar10" else data)
    files = [file for each in listing.values() for file in each]
    targets = [number for number, each in enumerate(listing.values()) for _ in each]
    source = "CIFAR-10 test" if data == "cifar10" else str(folder)
    return LabelledData(source=source, data=ImageDataset(files, targets), classes=tuple(listing))


def _cifar10() -> Path:
    place = os.environ.get("ZOO_DATA")
    folders = [Path(place, name) for name in CIFAR10_FOLDERS] if place else []
    for folder in folders:
        if folder.is_dir():
            return folder
    where = f"ZOO_DATA={place} has no folder cifar10" if place else "ZOO_DATA is not set"
    raise UsageError(
        f"cifar10: {where}: ZOO_DATA names the folder with cifar10/test/CLASS/*.png; or give "
        "any folder of class folders"
    )


def _from_dataset(data: Any) -> LabelledData:
    loader = isinstance(data, DataLoader)
    dataset = data.dataset if loader else data
    if not loader and not (hasattr(data, "__getitem__") and isinstance(data, Sized)):
        raise UsageError(
            f"{type(data).__name__} is no data to evaluate on: expected a folder, digits, cifar10, "
            "a Dataset with __getitem__ and __len__, or a DataLoader"
        )
    if isinstance(data, Sized) and not len(data):
        raise UsageError("data is empty")
    root = root_of(dataset)
    return LabelledData(
        source=type(root).__name__,
        data=data,
        classes=tuple(map(str, getattr(root, "classes", None) or ())),
        images=not loader and median_size(data) is not None,
    )
