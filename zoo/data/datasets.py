"""Examples for training and for validation, whatever they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from zoo.data.fingerprint import fingerprint
from zoo.data.image import open_image
from zoo.data.labels import known_targets, whole
from zoo.data.splits import Fractions
from zoo.errors import DataError, InputError, UsageError, warn

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_REPLACED = 20  # images in a row: then no single file has failed
SMALL = 40  # pixels: images up to here (digits, CIFAR) are stretched to the input size, not cropped


class ImageDataset(Dataset[tuple[Any, int]]):
    """(image, class number) of files or images in memory; `transform` makes the input
    tensor of an image.

    A file that cannot be read raises DataError. With `replacing`, the next one that can
    be takes its place, with its own class number, so that a long training does not die
    for one photo; `unreadable` names it, whatever process read it.
    """

    def __init__(
        self,
        images: Sequence[Path | Image],
        targets: Sequence[int],
        transform: Callable[[Any], Any] | None = None,
        *,
        replacing: bool = False,
    ) -> None:
        self.images = images
        self.targets = targets
        self.transform = transform
        self.failed: Tensor | None = None  # by index, for all processes that read
        if replacing:
            self.failed = torch.zeros(len(images), dtype=torch.bool)
            self.failed.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        try:
            return self._item(index)  # beyond the last an IndexError, which ends a loop
        except DataError as error:
            if self.failed is None:
                raise
            last, self.failed[index] = error, True
        for place in range(index + 1, index + MAX_REPLACED):
            try:
                return self._item(place % len(self))
            except DataError as error:
                last, self.failed[place % len(self)] = error, True
        raise DataError(f"{MAX_REPLACED} images in a row cannot be read, the last: {last}")

    def _item(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        upright = open_image(image) if isinstance(image, Path) else image
        return self.transform(upright) if self.transform else upright, self.targets[index]

    def unreadable(self) -> list[str]:
        """The files so far that another image took the place of."""
        if self.failed is None:
            return []
        return [str(self.images[index]) for index in self.failed.nonzero().flatten().tolist()]


class TransformedDataset(Dataset[tuple[Any, int]]):
    """A user's Dataset of PIL images, with a transform."""

    def __init__(self, dataset: Dataset[Any], transform: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.transform = transform

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.dataset[index]
        return self.transform(image), whole(label)


@dataclass(frozen=True, kw_only=True)
class DataSplit:
    """Data to train on, data for validation and, where there are such, data to test on,
    with how they were split; of images also their classes and what was left out.

    What `val` chooses (epoch, penalty, strategy) is reported on `test`.
    """

    name: str  # for the run folder
    source: str  # folder, or a description
    split: str  # how it was split, in words
    train: Any  # what the task's loaders take: a Dataset, a DataLoader, …
    val: Any
    test: Any = None
    classes: tuple[str, ...] = ()
    size: tuple[int, int] | None = (
        None  # median (width, height) before preprocessing; None: tensors
    )
    image_modes: Counter[str] = field(default_factory=Counter)  # colour, grey, palette, 16 bit, …
    skipped: dict[str, str] = field(default_factory=dict)  # file that is left out: reason
    cached: bool = False  # whether the images are decoded and in memory
    reopen: str = ""  # what the task's `open` takes to open them again; "": objects in memory

    @property
    def small(self) -> bool:
        return self.size is not None and max(self.size) <= SMALL

    @property
    def reported(self) -> tuple[str, Any]:
        """The part whose figures a run reports, by its word and as it is: the test
        data, where there are some.
        """
        test = getattr(self, "test", None)
        return ("validation", self.val) if test is None else ("test", test)

    def record(self) -> dict[str, Any]:
        """What config.json says of the data."""
        return {
            "source": self.source,
            "reopen": self.reopen,
            "fingerprint": fingerprint([self.train, self.val, getattr(self, "test", None)]),
            "split": self.split,
            "image_modes": dict(self.image_modes),
            "skipped": self.skipped,
        }


def transformed(dataset: Dataset[Any], transform: Callable[[Any], Any]) -> Dataset[Any]:
    """A data set of images with the preprocessing of a network."""
    if isinstance(dataset, ImageDataset):
        return ImageDataset(dataset.images, dataset.targets, transform, replacing=True)
    return TransformedDataset(dataset, transform)


def say_unreadable(split: DataSplit, said: set[str]) -> None:
    """Warn of files that failed since they were checked, each once: `said` grows."""
    parts = [part for part in (split.train, split.val, split.test) if part is not None]
    for part in parts:
        new = [file for file in getattr(part, "unreadable", list)() if file not in said]
        if new:
            named = ", ".join(new[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
            warn(
                f"{len(new)} image{'s' if len(new) > 1 else ''} can no longer be read, and the "
                f"next ones take their place: {named}"
            )
            said.update(new)


def from_dataset(
    data: Dataset[Any] | DataLoader[Any],
    val: Dataset[Any] | DataLoader[Any] | None,
    classes: Sequence[str] | None,
    *,
    val_fraction: float | None,
    test_fraction: float | None = None,
    seed: int,
) -> DataSplit:
    """A Dataset of (image, class number) pairs, or a DataLoader of such batches with
    validation data `val`.

    Without `val` a part of a Dataset becomes the validation data, and one of
    `test_fraction` those to test on. Images are tensors, or PIL images, which then get
    the network's preprocessing.
    """
    if val is not None and val_fraction is not None:
        raise UsageError("val_fraction and val= exclude each other: the validation data are given")
    fractions = Fractions.checked(val_fraction, test_fraction, own=() if val is None else ["val"])
    loader = isinstance(data, DataLoader)
    if loader != isinstance(val, DataLoader) and (loader or val is not None):
        raise UsageError(
            "a DataLoader needs the validation data as a DataLoader too, "
            "a Dataset as a Dataset: val=…"
        )
    if loader and test_fraction is not None:
        raise UsageError("test_fraction: a DataLoader is not divided; give a Dataset")
    data_set: Any = data.dataset if isinstance(data, DataLoader) else data
    for part, title in ((data, "data"), (val, "val")):
        if part is not None and not _length(part):
            raise UsageError(f"{title} is empty")
    targets = known_targets(data_set)
    parts: dict[str, Any] = {"train": data, "val": val}
    split = "given"
    if fractions.parts > 1:
        if len(data_set) < fractions.parts:
            raise UsageError(
                f"{type(data_set).__name__} has {len(data_set)} images: {fractions.parts} are "
                "needed to split them"
            )
        indices = fractions.divide(targets or [0] * len(data_set), seed)
        parts |= {part: Subset(data_set, chosen) for part, chosen in indices.items()}
        split = fractions.words(seed, "stratified" if targets else "random")
    title = type(root_of(data_set)).__name__
    return DataSplit(
        name=title.lower(),
        source=title,
        split=split,
        **parts,
        classes=_class_names(data_set, classes, targets),
        size=None if loader else median_size(parts["train"]),
    )


def _class_names(
    dataset: Any, given: Sequence[str] | None, targets: Sequence[int]
) -> tuple[str, ...]:
    """The given names, else those of the data set, else its class numbers; () when
    nothing says what there is.
    """
    if isinstance(given, str):
        raise InputError(f"classes={given!r}: needs a list of names")
    named = getattr(root_of(dataset), "classes", None) if given is None else given
    if named is not None and len(named):
        return tuple(map(str, named))
    numbers = range(max(targets, default=-1) + 1)
    if unused := sorted(set(numbers) - set(targets)):
        shown = ", ".join(map(str, unused[:5])) + (", …" if len(unused) > 5 else "")
        warn(
            f"the classes are taken as 0 to {numbers[-1]}, and the data have none of {shown}: "
            "class numbers count from 0 (classes=… names them)"
        )
    return tuple(map(str, numbers))


def _length(data: Any) -> int:
    """Raises UsageError for streams: the learning rate's schedule needs to know how
    long training is.
    """
    try:
        return len(data)
    except TypeError as error:
        raise UsageError(
            f"{type(getattr(data, 'dataset', data)).__name__} has no length: give it a __len__"
        ) from error


def root_of(dataset: Any) -> Any:
    """What a Subset, or one of one, is a part of."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def median_size(dataset: Any) -> tuple[int, int] | None:
    """Median size of PIL images, by the first few; None for tensors. Raises UsageError
    for other items.
    """
    from PIL.Image import Image

    items = [dataset[index] for index in range(min(len(dataset), 9))]
    if any(not isinstance(item, (tuple, list)) or len(item) != 2 for item in items):
        return None  # a loss of the user's own knows what they are
    images = [image for image, _ in items]
    if all(isinstance(image, Image) for image in images):
        widths, heights = zip(*(image.size for image in images), strict=True)
        return int(median(widths)), int(median(heights))
    if not all(isinstance(image, Tensor) for image in images):
        raise UsageError(
            f"the images of {type(root_of(dataset)).__name__} are {type(images[0]).__name__}s: "
            "needs tensors or PIL images"
        )
    return None
