"""Labelled images for training and for holding out, whatever they come from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset, Subset

from zoo.data.image import open_image
from zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SMALL = 40  # pixels: images up to here (digits, CIFAR) are stretched to the input size instead of cropped
FIFTH = 0.2


class Images(Dataset[tuple[Any, int]]):
    """(image, class number) of files or images in memory; `transform` makes the input
    tensor of an image.
    """

    def __init__(
        self,
        images: Sequence[Path | Image],
        targets: Sequence[int],
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.images = images
        self.targets = targets
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        upright = open_image(image) if isinstance(image, Path) else image
        return self.transform(upright) if self.transform else upright, self.targets[index]


class Transformed(Dataset[tuple[Any, int]]):
    """A user's Dataset of PIL images, with a transform."""

    def __init__(self, dataset: Dataset[Any], transform: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.transform = transform

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.dataset[index]
        return self.transform(image), int(label)


@dataclass(frozen=True)
class Data:
    """Images to train on and images held out, with how they were split and what was
    left out.
    """

    name: str  # for the run folder
    source: str  # folder, or a description
    classes: tuple[str, ...]
    train: Any  # Dataset or DataLoader
    val: Any
    split: str
    size: tuple[int, int] | None = (
        None  # median width and height of images that still need the preprocessing; None: ready tensors
    )
    skipped: dict[str, str] = field(default_factory=dict)  # unreadable file: reason
    kinds: Counter[str] = field(
        default_factory=Counter
    )  # of image files: colour, grey, palette, transparent, 16 bit, CMYK …

    @property
    def small(self) -> bool:
        return self.size is not None and max(self.size) <= SMALL

    def transformed(
        self, train: Callable[[Any], Any], val: Callable[[Any], Any]
    ) -> tuple[Dataset, Dataset]:
        """The two data sets with the preprocessing of a network."""
        sets = []
        for dataset, transform in ((self.train, train), (self.val, val)):
            images = isinstance(dataset, Images)
            sets.append(
                Images(dataset.images, dataset.targets, transform)
                if images
                else Transformed(dataset, transform)
            )
        return sets[0], sets[1]


def stratified(targets: Sequence[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold out: of each class about `fraction`, at least one
    and not all. Depends on the seed alone.
    """
    generator = random.Random(seed)
    by_class: dict[int, list[int]] = {}
    for index, target in enumerate(targets):
        by_class.setdefault(target, []).append(index)
    train, val = [], []
    for target in sorted(by_class):
        indices = by_class[target]
        generator.shuffle(indices)
        held_out = min(max(round(fraction * len(indices)), 1), len(indices) - 1)
        val += indices[:held_out]
        train += indices[held_out:]
    return sorted(train), sorted(val)


def check_fraction(val_fraction: float | None) -> float:
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise InputError(f"val_fraction={val_fraction}: needs a number between 0 and 1, e.g. 0.2")
    return FIFTH if val_fraction is None else val_fraction


def from_dataset(
    data: Dataset[Any] | DataLoader[Any],
    val: Dataset[Any] | DataLoader[Any] | None,
    classes: Sequence[str] | None,
    *,
    val_fraction: float | None,
    seed: int,
) -> Data:
    """A Dataset of (image, class number) pairs, or a DataLoader of such batches with a
    held-out part `val`.

    Without `val` a part of a Dataset is held out. Images are tensors, or PIL images,
    which then get the network's preprocessing.
    """
    fraction = check_fraction(val_fraction)
    if val is not None and val_fraction is not None:
        raise UsageError("val_fraction and val= exclude each other: the held-out part is given")
    if isinstance(data, DataLoader) != isinstance(val, DataLoader) and (
        isinstance(data, DataLoader) or val is not None
    ):
        raise UsageError(
            "a DataLoader needs the held-out images as a DataLoader too, a Dataset as a Dataset: val=…"
        )
    loader = isinstance(data, DataLoader)
    whole: Any = data.dataset if isinstance(data, DataLoader) else data
    for part, title in ((data, "data"), (val, "val")):
        if part is not None and not _length(part):
            raise UsageError(f"{title} is empty")
    targets = _targets(whole)
    numbers = range(max(targets, default=-1) + 1)
    names = tuple(map(str, classes or getattr(_root(whole), "classes", None) or numbers))
    split = "given"
    train: Any = data
    if val is None:
        if len(whole) < 2:
            raise UsageError(
                f"{type(whole).__name__} has {len(whole)} images: 2 are needed to hold one out"
            )
        kept, held_out = stratified(targets or [0] * len(whole), fraction, seed)
        train, val = Subset(whole, kept), Subset(whole, held_out)
        split = f"{'stratified' if targets else 'random'}, {fraction:.0%} held out, seed {seed}"
    size = None if loader else _size(train)
    return Data(
        type(_root(whole)).__name__.lower(),
        type(_root(whole)).__name__,
        names,
        train,
        val,
        split,
        size,
    )


def _length(data: Any) -> int:
    """Raises UsageError for streams: the learning rate's course needs to know how long
    training is.
    """
    try:
        return len(data)
    except TypeError as error:
        raise UsageError(
            f"{type(getattr(data, 'dataset', data)).__name__} has no length: give it a __len__"
        ) from error


def _root(dataset: Any) -> Any:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _targets(dataset: Any) -> list[int]:
    """Class numbers of a data set that has them at hand, else nothing."""
    if isinstance(dataset, Subset):
        targets = _targets(dataset.dataset)
        return [targets[index] for index in dataset.indices] if targets else []
    found = getattr(dataset, "targets", None)
    if found is None:
        found = getattr(dataset, "tensors", (None,))[-1]  # TensorDataset
    return [] if found is None else [int(target) for target in found]


def _size(dataset: Any) -> tuple[int, int] | None:
    """Median size of PIL images, by the first few; None for tensors. Raises UsageError
    for other items.
    """
    from PIL.Image import Image
    from torch import Tensor

    items = [dataset[index] for index in range(min(len(dataset), 9))]
    if any(not isinstance(item, (tuple, list)) or len(item) != 2 for item in items):
        return None  # a step of one's own knows what they are
    if all(isinstance(image, Image) for image, _ in items):
        return int(median(image.width for image, _ in items)), int(
            median(image.height for image, _ in items)
        )
    if not all(isinstance(image, Tensor) for image, _ in items):
        raise UsageError(
            f"the images of {type(_root(dataset)).__name__} are {type(items[0][0]).__name__}s: needs tensors or PIL images"
        )
    return None
