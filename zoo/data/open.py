"""Whatever names or holds labelled images, opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.data.csv_list import is_csv, open_csv
from zoo.data.datasets import DataSplit, from_dataset
from zoo.data.digits import open_digits
from zoo.data.folder import open_folder
from zoo.data.named import find_path, find_set, open_set
from zoo.errors import UsageError, warn

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset


def open_data(
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any],
    *,
    val: Dataset[Any] | DataLoader[Any] | None = None,
    classes: Sequence[str] | None = None,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DataSplit:
    """`digits`, a data set by name (zoo.data.named.SETS), a folder of images, here or
    in ZOO_DATA, a CSV file, a Dataset or a DataLoader; `val` and `classes` go with the
    last two only. A folder of the name `digits` is `./digits`.
    """
    fractions: Any = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    if not isinstance(data, (str, os.PathLike)):
        return from_dataset(data, val, classes, **fractions, seed=seed)
    if val is not None or classes is not None:
        raise UsageError(
            "val= and classes= belong to a Dataset or DataLoader: "
            "a folder has its own val/ and class folders"
        )
    if data == "digits" or (name := find_set(data)):
        if os.path.isdir(data):
            warn(f"{data!r} is the data set of that name; the folder is ./{data}")
        if data == "digits":
            return open_digits(**fractions, seed=seed)
        return open_set(name, **fractions, seed=seed, progress=progress)
    path = find_path(data)
    how = open_csv if is_csv(path) else open_folder
    return how(path, **fractions, seed=seed, progress=progress)
