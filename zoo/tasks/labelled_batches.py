"""Labelled images in batches, each as the views that networks see of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data.labelled import LabelledData
from zoo.data.labels import whole
from zoo.data.views import Views
from zoo.errors import DataError


class Batch(NamedTuple):
    """`images`: (N, V, C, H, W) for each way to view them. `numbers`: of the images in
    the data; () where a DataLoader does not say them. `errors`: the files that cannot
    be read, with the reason; they are not among the images.
    """

    images: Sequence[Tensor]
    labels: Tensor  # (N,)
    numbers: Sequence[int]
    errors: Sequence[str]


class Item(NamedTuple):
    views: Sequence[Tensor]  # (V, C, H, W)
    label: Any
    number: int
    error: str = ""


class _Viewed(Dataset[Item]):
    """An image in each of several ways; () ways: it is a tensor, and stays as it is."""

    def __init__(self, data: Any, ways: Sequence[Views]) -> None:
        self.data, self.ways = data, ways

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Item:
        try:
            image, label = self.data[number]
        except DataError as error:
            return Item((), None, number, str(error))
        if not self.ways:
            return Item([image[None]], label, number)
        try:
            return Item([views(image) for views in self.ways], label, number)
        except DataError as error:
            files = getattr(self.data, "images", None)
            name = files[number] if files else f"image {number}"
            return Item((), None, number, f"{name}: {error}")


def batches_of(
    data: LabelledData,
    ways: Sequence[Views],
    *,
    batch_size: int,
    workers: int = 0,
    progress: bool = True,
) -> Iterator[Batch]:
    """All images, each in every way to view it; () ways: they are tensors. A user's
    DataLoader gives its own batches. Raises DataError for what is no such data.
    """
    given: Any = data.data
    if isinstance(given, DataLoader):
        batches: Iterable[Any] = map(_checked, given)
        count = len(given) if hasattr(given.dataset, "__len__") else None
    else:
        loader = DataLoader(
            _Viewed(given, ways), batch_size, num_workers=workers, collate_fn=list
        )  # errors are for the main process, whose message has no traceback in it
        batches, count = map(_stacked, loader), len(loader)
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    title = f"evaluating on {data.source}"
    yield from track(batches, title, count, console=console, transient=True, disable=hidden)


def _stacked(items: Sequence[Item]) -> Batch:
    good = [item for item in items if not item.error]
    labels = [whole(item.label) for item in good]
    if wrong := [label for label in labels if not isinstance(label, int)]:
        raise DataError(f"the labels of the data are no class numbers: {wrong[0]!r}")
    images = []
    for same in zip(*(item.views for item in good), strict=True):
        shapes = sorted({tuple(views.shape[1:]) for views in same})
        if len(shapes) > 1:
            raise DataError(
                f"the images have several shapes: {shapes[0]} and {shapes[1]}; give PIL images, "
                "or tensors of one size"
            )
        images.append(torch.stack(same))
    return Batch(
        images,
        torch.tensor(labels, dtype=torch.long),
        [item.number for item in good],
        [item.error for item in items if item.error],
    )


def _checked(batch: Any) -> Batch:
    """A batch of a user's DataLoader."""
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair or not all(isinstance(part, Tensor) for part in batch):
        raise DataError("the batches are no pairs of images (N, C, H, W) and class numbers (N,)")
    images, labels = batch
    if labels.ndim != 1 or labels.is_floating_point() or len(images) != len(labels):
        raise DataError(
            f"the labels have the shape {tuple(labels.shape)} and are {labels.dtype}: needs class "
            "numbers (N,), one per image"
        )
    return Batch([images[:, None]], labels.long().cpu(), (), ())
