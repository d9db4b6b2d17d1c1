"""Data sets by name: torchvision's sets of labelled images, in the folder of their name
in ZOO_DATA, as torchvision keeps them or as a folder of images with parts. What is not
there is downloaded to there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.classes import CIFAR10
from zoo.data.datasets import DataSplit, ImageDataset
from zoo.data.files import FileParts, from_listing, open_files
from zoo.data.folder import list_test_part, open_folder
from zoo.data.idx import read_idx
from zoo.data.pixels import PixelDataset
from zoo.data.splits import Fractions
from zoo.data.walk import Listing
from zoo.errors import DataError, UsageError, nearest, warn
from zoo.formatting import some_of
from zoo.paths import data_folder, offline

DIGITS = tuple(map(str, range(10)))
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
Parts = Mapping[str, Mapping[str, Any]]
TRAIN_TEST: Parts = {"train": {"train": True}, "test": {"train": False}}
IDX_PARTS = {"train": "train", "test": "t10k"}


def _by_split(*names: str) -> Parts:
    return {"train" if name == "trainval" else name: {"split": name} for name in names}


@dataclass(frozen=True)
class NamedSet:
    """A set of torchvision, with what its class there is called, what that makes in its
    folder, how many images the official training part has, and the arguments for each
    part.
    """

    title: str
    kind: str
    inside: str
    images: int
    parts: Parts
    classes: tuple[str, ...] = ()  # (): those that torchvision names, else numbers
    folders: tuple[str, ...] = ()  # other places in ZOO_DATA


# fmt: off
SETS = {
    "mnist":         NamedSet("MNIST", "MNIST", "MNIST/raw", 60_000, TRAIN_TEST, DIGITS),
    "fashion-mnist": NamedSet("Fashion-MNIST", "FashionMNIST", "FashionMNIST/raw", 60_000, TRAIN_TEST, CLOTHES),
    "kmnist":        NamedSet("KMNIST", "KMNIST", "KMNIST/raw", 60_000, TRAIN_TEST, KANA),
    "cifar10":       NamedSet("CIFAR-10", "CIFAR10", "cifar-10-batches-py", 50_000, TRAIN_TEST, CIFAR10, ("cifar10_full",)),
    "cifar100":      NamedSet("CIFAR-100", "CIFAR100", "cifar-100-python", 50_000, TRAIN_TEST),
    "svhn":          NamedSet("SVHN", "SVHN", "train_32x32.mat", 73_257, _by_split("train", "test"), DIGITS),
    "stl10":         NamedSet("STL-10", "STL10", "stl10_binary", 5_000, _by_split("train", "test")),
    "flowers102":    NamedSet("Flowers-102", "Flowers102", "flowers-102", 1_020, _by_split("train", "val", "test")),
    "food101":       NamedSet("Food-101", "Food101", "food-101", 75_750, _by_split("train", "test")),
    "dtd":           NamedSet("DTD", "DTD", "dtd", 1_880, _by_split("train", "val", "test")),
    "fgvc-aircraft": NamedSet("FGVC-Aircraft", "FGVCAircraft", "fgvc-aircraft-2013b", 3_334, _by_split("train", "val", "test")),
    "oxford-iiit-pet": NamedSet("Oxford-IIIT Pet", "OxfordIIITPet", "oxford-iiit-pet", 3_680, _by_split("trainval", "test")),
}
# fmt: on


def find_set(data: str | os.PathLike[str]) -> str:
    """The name of the set that is meant; "" for a path, or a name of something else."""
    if not isinstance(data, str) or "/" in data or os.sep in data:
        return ""
    plain = {_plain(name): name for name in SETS}
    return plain.get(_plain(data), "")


def find_path(data: str | os.PathLike[str]) -> Path:
    """A path, or what is called so in ZOO_DATA. Raises UsageError where there is
    neither.
    """
    path, place = Path(data).expanduser(), data_folder()
    if path.exists():
        return path
    if place and not path.is_absolute() and (place / path).exists():
        return place / path
    name = os.fspath(data)
    names = ["digits", *SETS]
    near = nearest(name, names) or f"; data is a folder of images, a CSV file, or {some_of(names)}"
    where = f", and ZOO_DATA={place} has none" if place and not path.is_absolute() else ""
    raise UsageError(f"there is no folder {name!r}{where}{near}")


def open_set(
    name: str,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DataSplit:
    """The official parts of a set; a part of the training images is for validation,
    where there is none. Raises UsageError where it cannot be had, DataError where its
    files are damaged.
    """
    known, root = SETS[name], _place(name)
    options: Any = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    if not (root / known.inside).exists():
        split = open_folder(root, **options, seed=seed, progress=progress)
        own = len(split.train) if (root / "val").is_dir() else len(split.train) + len(split.val)
        if own != known.images:
            warn(f"{root} has {own:,} of the {known.images:,} training images of {known.title}")
        return split
    fractions = Fractions.checked(**options, source=known.title, own=known.parts)
    read = {part: _official(known, root, part) for part in known.parts}
    words = {part: f"the {part} part of {known.title}" for part in read}
    if not isinstance(read["train"].images, Tensor):
        given = FileParts(
            name=name,
            source=f"{known.title} in {root}",
            root=root,
            listings={part: each.listing for part, each in read.items()},
            titles=words,
            words=words,
        )
        return open_files(given, fractions, seed=seed, progress=progress)
    train = read.pop("train")
    parts: dict[str, Any] = {part: each.pixels() for part, each in read.items()}
    drawn = fractions.divide(train.targets, seed)
    parts |= {part: train.pixels(indices) for part, indices in drawn.items()}
    height, width = train.images.shape[-2:]
    return DataSplit(
        name=name,
        source=f"{known.title} in {root}",
        split=f"official; of {words['train']} {fractions.words(seed)}",
        **parts,
        classes=train.classes,
        size=(width, height),
    )


def open_test_part(name: str) -> tuple[Dataset[Any], tuple[str, ...]]:
    """The official test images of a set, and its classes. Raises as `open_set`."""
    known, root = SETS[name], _place(name)
    if not (root / known.inside).exists():
        _, listing = list_test_part(root)
        return from_listing(listing), tuple(listing)
    part = _official(known, root, "test")
    if isinstance(part.images, Tensor):
        return part.pixels(), part.classes
    return ImageDataset(part.images, part.targets), part.classes


@dataclass(frozen=True)
class _Part:
    """A part as it was published: (N, C, H, W) uint8 or files."""

    images: Any
    targets: list[int]
    classes: tuple[str, ...]

    @property
    def listing(self) -> Listing:
        found: Listing = {name: [] for name in self.classes}
        for image, target in zip(self.images, self.targets, strict=True):
            found[self.classes[target]].append(Path(image))
        return found

    def pixels(self, indices: Sequence[int] | None = None) -> PixelDataset:
        if indices is None:
            return PixelDataset(self.images, self.targets)
        return PixelDataset(self.images[indices], [self.targets[index] for index in indices])


def _place(name: str) -> Path:
    """The folder of a set, downloaded where that is possible."""
    known, place = SETS[name], data_folder()
    wanted = f"{name}/{known.inside} as torchvision has it, or {name}/train and {name}/test"
    if place is None:
        raise UsageError(
            f"{name}: ZOO_DATA is not set: ZOO_DATA=FOLDER names the folder with {wanted} with a "
            "folder of images per class; what is not there is downloaded to there"
        )
    for folder in (place / name, *(place / other for other in known.folders)):
        if folder.is_dir() and any(folder.iterdir()):
            return folder
    if (place / known.inside).exists():
        return place
    if offline():
        raise UsageError(
            f"{name}: ZOO_DATA={place} has no folder {name}, and ZOO_OFFLINE forbids the network: "
            f"put there {wanted} with a folder of images per class"
        )
    warn(f"{known.title} is downloaded to {place / name}")
    (place / name).mkdir(parents=True, exist_ok=True)
    for part in known.parts:
        _torchvision(known, place / name, part, download=True)
    return place / name


def _official(known: NamedSet, root: Path, part: str) -> _Part:
    if known.inside.endswith("/raw"):
        files = (f"{IDX_PARTS[part]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
        images, labels = (read_idx(root / known.inside / file) for file in files)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(f"{root / known.inside}: the {part} images and labels do not agree")
        return _Part(images[:, None], labels.tolist(), known.classes)
    found = _torchvision(known, root, part)
    images = _first(found, "data", "_image_files", "_images")
    targets = [int(target) for target in _first(found, "targets", "labels", "_labels")]
    if not isinstance(images, list):
        images = torch.from_numpy(images)
        images = images.permute(0, 3, 1, 2).contiguous() if images.shape[-1] == 3 else images
    named = known.classes or getattr(found, "classes", None) or range(max(targets) + 1)
    return _Part(images, targets, tuple(map(str, named)))


def _first(found: Any, *names: str) -> Any:
    """torchvision's sets of files keep them under private names."""
    return next(value for name in names if (value := getattr(found, name, None)) is not None)


def _torchvision(known: NamedSet, root: Path, part: str, *, download: bool = False) -> Any:
    import torchvision.datasets

    try:
        kind = getattr(torchvision.datasets, known.kind)
        return kind(root, **known.parts[part], download=download)
    except Exception as error:  # of the network, of archives, of pickles
        lines = str(error).strip().splitlines()
        what = f"could not be downloaded to {root}" if download else f"in {root} cannot be read"
        raise DataError(
            f"{known.title} {what}: {lines[0] if lines else type(error).__name__}"
        ) from error


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
