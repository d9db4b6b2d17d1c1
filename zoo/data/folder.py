"""Folders of images, one folder per class: torchvision's ImageFolder layout, with parts
or in one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from zoo.data.datasets import DataSplit
from zoo.data.files import FileParts, class_names, open_files
from zoo.data.image import is_image_name
from zoo.data.parts import find_parts, find_test_part
from zoo.data.splits import Fractions
from zoo.data.walk import Listing, Walk
from zoo.errors import DataError, UsageError, warn


def open_folder(
    folder: str | Path,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DataSplit:
    """Read a folder with `train/`, `val/` and `test/` (or as such are usually called:
    Training, seg_train, valid), or with the class folders themselves. Without val/ a
    part of the training images is for validation; without test/ one of `test_fraction`
    is to test on.

    Each file is used once, whatever links lead to it, in one part.
    """
    root = _existing(folder)
    parts = find_parts(root)
    fractions = Fractions.checked(val_fraction, test_fraction, source=str(root), own=parts)
    walk = Walk(root, list(parts.values()))
    for part, listing, others in zip(parts.values(), walk.listings, walk.others, strict=True):
        _say_left_out(part, listing, others)
    _say_repeats(root, walk.repeats)
    given = FileParts(
        name=root.resolve().name or "images",
        source=str(root.resolve()),
        root=root,
        listings=dict(zip(parts, walk.listings, strict=True)),
        titles={name: str(part) for name, part in parts.items()},
        words={name: f"{part.relative_to(root)}/" for name, part in parts.items()},
        left_out=walk.repeats,
    )
    return open_files(given, fractions, seed=seed, progress=progress)


def list_test_part(folder: str | Path) -> tuple[Path, Listing]:
    """The folder that holds the class folders to test on (of a folder with parts test/,
    else val/), and the image files of each class that has any. They are not opened.

    Raises UsageError for a wrong path, DataError without images in class folders.
    """
    root = _existing(folder)
    part = find_test_part(root)
    walk = Walk(root, [part])
    (listing,), (others,) = walk.listings, walk.others
    _say_left_out(part, listing, others)
    _say_repeats(root, walk.repeats)
    found = {name: files for name, files in listing.items() if files}
    if not found:
        raise DataError(f"there are no images in {part}")
    if empty := [name for name in listing if name not in found]:
        warn(f"{part}: there are no images of class {class_names(empty)}")
    return part, found


def _existing(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.exists():
        raise UsageError(f"there is no folder {str(folder)!r}")
    if not root.is_dir():
        raise UsageError(
            f"{str(folder)!r} is a file: data is a folder with one folder of images per class"
        )
    return root


def _say_left_out(part: Path, listing: Listing, others: Counter[str]) -> None:
    """What lies in a part and is no image of a class. Raises DataError without class
    folders.
    """
    loose = sum(is_image_name(path) for path in part.iterdir() if path.is_file())
    if not listing:
        found = f", but {loose} images: put each into its class folder" if loose else ""
        raise DataError(f"{part} has no class folders{found}")
    if loose:
        warn(f"{loose} images in {part} are in no class folder: they are left out")
    if others:
        suffixes = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        warn(
            f"{others.total()} files in {part} are no images by their names ({suffixes}): "
            "they are left out"
        )


def _say_repeats(root: Path, repeats: Mapping[Path, str]) -> None:
    if repeats:
        named = ", ".join(str(path.relative_to(root)) for path in list(repeats)[:5])
        more = f" and {len(repeats) - 5} more" if len(repeats) > 5 else ""
        warn(
            f"links in {root} lead to what is there already: each file is used once, "
            f"without {named}{more}"
        )
