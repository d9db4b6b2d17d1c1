"""Labelled images to test on, whatever names or holds them."""

from __future__ import annotations

import os
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset

from zoo.data.csv_list import is_csv, read_csv
from zoo.data.datasets import DataSplit, median_size, root_of
from zoo.data.digits import open_digits
from zoo.data.files import from_listing
from zoo.data.folder import list_test_part
from zoo.data.named import SETS, find_path, find_set, open_test_part
from zoo.errors import UsageError, warn


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
    """`digits` (its fifth for validation), the official test images of a data set by
    name, a folder with a folder of images per class, here or in ZOO_DATA (of parts
    test/, else val/), a CSV file (of parts as well), a Dataset or a DataLoader; of a
    DataSplit the part that a run reports on. Raises
    UsageError and DataError.
    """
    if isinstance(data, DataSplit):
        return _reported(data)
    if not isinstance(data, (str, os.PathLike)):
        return _from_dataset(data)
    name = "digits" if data == "digits" else find_set(data)
    if name and os.path.isdir(data):
        warn(f"{data!r} is the data set of that name; the folder is ./{data}")
    if name == "digits":
        digits = open_digits()
        source = "the 360 validation digits of scikit-learn"
        return LabelledData(source=source, data=digits.val, classes=digits.classes)
    if name:
        images, classes = open_test_part(name)
        return LabelledData(source=f"{SETS[name].title} test", data=images, classes=classes)
    path = find_path(data)
    if is_csv(path):
        parts = read_csv(path)
        part = next(part for part in ("test", "val", "train") if part in parts)
        listing, source = parts[part], f"the {part} rows of {path}" if len(parts) > 1 else str(path)
    else:
        folder, listing = list_test_part(path)
        source = str(folder)
    return LabelledData(source=source, data=from_listing(listing), classes=tuple(listing))


def _reported(split: DataSplit) -> LabelledData:
    word, part = split.reported
    return LabelledData(
        source=f"{split.source}, its {word} images",
        data=part,
        classes=split.classes,
        images=split.size is not None,
    )


def _from_dataset(data: Any) -> LabelledData:
    loader = isinstance(data, DataLoader)
    dataset = data.dataset if loader else data
    if not loader and not (hasattr(data, "__getitem__") and isinstance(data, Sized)):
        raise UsageError(
            f"{type(data).__name__} is no data to evaluate on: expected a folder, a CSV file, the "
            "name of a data set, a Dataset with __getitem__ and __len__, or a DataLoader"
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
