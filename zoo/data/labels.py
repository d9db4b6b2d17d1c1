"""Class numbers of data sets, checked before training."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any

from torch import Tensor, int64
from torch.utils.data import ConcatDataset, DataLoader, Subset, default_collate

from zoo.errors import DataError

SAMPLE = 16  # items, spread over the data, that show what labels are


def known_targets(dataset: Any) -> list[int]:
    """Class numbers of a data set that has them at hand, else nothing: where they are
    something else, or changed on their way to the item.
    """
    if isinstance(dataset, Subset):
        targets = known_targets(dataset.dataset)
        return [targets[number] for number in dataset.indices] if targets else []
    if isinstance(dataset, ConcatDataset):
        parts = [known_targets(part) for part in dataset.datasets]
        return [target for part in parts for target in part] if all(parts) else []
    if getattr(dataset, "target_transform", None) is not None:
        return []
    found = getattr(dataset, "targets", None)
    if found is None:
        found = getattr(dataset, "tensors", (None,))[-1]  # TensorDataset
    if found is None:
        return []
    if isinstance(found, Tensor):
        found = [] if found.ndim != 1 or found.is_floating_point() else found.tolist()
    try:
        return [index(target) for target in found]
    except TypeError:
        return []


def check_labels(part: Any, count: int, title: str, *, images: bool) -> bool:
    """Raises DataError for labels that are no class numbers from 0 to `count` - 1
    (0: of any number of classes).

    False: the data set does not have them at hand, and only some are checked.
    `images`: it holds PIL images, whose labels become whole numbers in any case.
    """
    data_set: Any = part.dataset if isinstance(part, DataLoader) else part
    size = len(data_set) if hasattr(data_set, "__getitem__") else 0  # 0: a stream
    numbers = range(0, size, max(size // SAMPLE, 1))
    labels = _labels(part, numbers, title, images)
    check_batch(labels, count, title)
    targets = known_targets(data_set)
    if not targets or [targets[number] for number in numbers] != labels.tolist():
        return False
    _check_range(min(targets), max(targets), count, title)
    return True


def check_batch(labels: Any, count: int, title: str) -> None:
    """The same for the labels of a batch."""
    if not isinstance(labels, Tensor):
        found = labels[0] if isinstance(labels, (list, tuple)) and labels else labels
        raise DataError(
            f"the labels of the {title} data are no numbers ({found!r}): needs class numbers from "
            "0 on, e.g. names.index(label)"
        )
    if labels.ndim != 1:
        change = "argmax(1)" if labels.ndim == 2 and labels.shape[1] > 1 else "flatten()"
        raise DataError(
            f"the labels of the {title} data have the shape {tuple(labels.shape)}: needs one class "
            f"number per image, (N,), e.g. labels.{change}; loss=… takes others"
        )
    if labels.dtype != int64:
        raise DataError(
            f"the labels of the {title} data are {str(labels.dtype).removeprefix('torch.')}: needs "
            "class numbers in int64, e.g. labels.long(); loss=… takes others"
        )
    if len(labels):
        low, high = labels.aminmax()
        _check_range(int(low), int(high), count, title)


def is_labelled(batch: Any) -> bool:
    """Whether a batch is (images, class numbers)."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        return False
    return all(isinstance(part, Tensor) for part in batch) and not batch[1].is_floating_point()


def first_batch(loader: DataLoader[Any], numbers: Iterable[int] = (0,)) -> Any:
    """A batch of these items, of a loader that knows no such its first one."""
    dataset: Any = loader.dataset
    by_number = loader.batch_size or hasattr(loader, "set_position")
    if hasattr(dataset, "__getitem__") and by_number:
        return loader.collate_fn([dataset[number] for number in numbers])
    return next(iter(loader))


def _labels(part: Any, numbers: Iterable[int], title: str, images: bool) -> Tensor:
    if isinstance(part, DataLoader):
        batch = first_batch(part, numbers)
        if not _is_pair(batch):
            raise _no_pair(title)
        labels = batch[1]
    else:
        items = [part[number] for number in numbers]
        if not all(map(_is_pair, items)):
            raise _no_pair(title)
        found = [label for _, label in items]
        labels = default_collate([whole(label) for label in found] if images else found)
    return labels


def whole(label: Any) -> Any:
    """A label as a whole number, where it is one."""
    try:
        return index(label)
    except TypeError:
        return label


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2


def _no_pair(title: str) -> DataError:
    return DataError(
        f"the {title} data are no pairs of an image and a class number: "
        "pass loss=, a function of (outputs, batch, model)"
    )


def _check_range(low: int, high: int, count: int, title: str) -> None:
    if low < 0 or (count and high >= count):
        found = low if low < 0 else high
        classes = f" with {count} classes: they are 0 to {count - 1}" if count else ""
        raise DataError(
            f"the {title} data have the class number {found}{classes or ': they count from 0'}"
        )
