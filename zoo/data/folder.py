"""Folders of images, one folder per class: torchvision's ImageFolder layout, or a
single set that is split here.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from zoo.data.datasets import DataSplit, ImageDataset, check_fraction, stratified_split
from zoo.data.image import EXTENSIONS, inspect_image, is_image_name
from zoo.data.parts import find_parts, find_test_part
from zoo.data.walk import Listing, Walk
from zoo.errors import DataError, UsageError, warn


def open_folder(
    folder: str | Path, *, val_fraction: float | None = None, seed: int = 0, progress: bool = True
) -> DataSplit:
    """Read a folder with `train/` and `val/` (or as such are usually called: Training,
    seg_train, valid), or with the class folders themselves, of which a part then
    becomes the validation data.

    Every image is decoded once, and each file is used once, whatever links lead to it,
    for training or for validation. Unreadable ones are left out and said; whatever
    makes training impossible raises DataError (UsageError for a wrong path) here,
    before it starts.
    """
    root = _existing(folder)
    fraction = check_fraction(val_fraction)
    parts = find_parts(root)
    if len(parts) == 2 and val_fraction is not None:
        raise UsageError(
            f"{root} has its own validation images in {parts[1].name}/: leave val_fraction out"
        )
    walk = Walk(root, parts)
    listings = walk.listings
    for part, listing, others in zip(parts, listings, walk.others, strict=True):
        _say_left_out(part, listing, others)
    _say_repeats(root, walk.repeats)
    _check_classes(root, parts, listings)
    files = [file for listing in listings for files in listing.values() for file in files]
    found, skipped = scan(files, progress=progress)
    _say_skipped(skipped, len(files))
    classes = tuple(listings[0])
    needed = 1 if len(parts) == 2 else 2
    samples: list[tuple[list[Path], list[int]]] = []
    for part, listing in zip(parts, listings, strict=True):
        images, targets = [], []
        for target, name in enumerate(classes):
            readable = [file for file in listing[name] if file in found]
            if len(readable) < needed:
                count = f"{len(readable)} readable image" if readable else "no readable image"
                raise DataError(
                    f"class {name!r} has {count} in {part}: "
                    f"needs {needed} or more, or remove that folder"
                )
            images += readable
            targets += [target] * len(readable)
        samples.append((images, targets))
    if len(parts) == 2:
        train, val = (ImageDataset(*sample) for sample in samples)
        split = " and ".join(f"{part.relative_to(root)}/" for part in parts)
    else:
        images, targets = samples[0]
        train, val = (
            ImageDataset([images[i] for i in part], [targets[i] for i in part])
            for part in stratified_split(targets, fraction, seed)
        )
        split = f"stratified, {fraction:.0%} for validation, seed {seed}"
    widths, heights = zip(*(size for _, size in found.values()), strict=True)
    return DataSplit(
        name=root.resolve().name or "images",
        source=str(root.resolve()),
        classes=classes,
        train=train,
        val=val,
        split=split,
        size=(int(median(widths)), int(median(heights))),
        skipped={
            str(file.relative_to(root)): reason for file, reason in (skipped | walk.repeats).items()
        },
        image_modes=Counter(mode for mode, _ in found.values()),
    )


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
        warn(f"{part}: there are no images of class {_names(empty)}")
    return part, found


def _existing(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.exists():
        raise UsageError(
            f"there is no folder {str(folder)!r}; data is a folder of images, or `digits`"
        )
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


def _check_classes(root: Path, parts: list[Path], listings: list[Listing]) -> None:
    if not any(files for listing in listings for files in listing.values()):
        raise DataError(
            f"there are no images in {root}: "
            f"its folders hold no file named {' '.join(sorted(EXTENSIONS))}"
        )
    for part, other, listing, rest in zip(
        parts, parts[::-1], listings, listings[::-1], strict=True
    ):
        if only := [name for name in listing if name not in rest]:
            raise DataError(
                f"class {_names(only)} is in {part.name}/ but not in {other.name}/ of {root}: "
                "every class needs images in both"
            )
        if len(listing) == 1:
            raise DataError(
                f"{part} has only one class, {next(iter(listing))!r}: "
                "needs two or more class folders"
            )


def scan(
    files: list[Path], *, progress: bool = True
) -> tuple[dict[Path, tuple[str, tuple[int, int]]], dict[Path, str]]:
    """Decode every file: mode and size of the readable ones, the reason for the
    others.
    """
    from rich.console import Console
    from rich.progress import track

    found, skipped = {}, {}
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        # Pillow's remarks on odd metadata; set here, as it is not safe in threads
        warnings.simplefilter("ignore")
        console = Console(stderr=True)
        hidden = not (progress and console.is_terminal)
        results: Iterable[tuple[str, tuple[int, int]] | DataError] = pool.map(_try_inspect, files)
        results = track(
            results, "checking images", len(files), console=console, transient=True, disable=hidden
        )
        for file, result in zip(files, results, strict=True):
            if isinstance(result, DataError):
                skipped[file] = str(result)
            else:
                found[file] = result
    return found, skipped


def _try_inspect(file: Path) -> tuple[str, tuple[int, int]] | DataError:
    try:
        return inspect_image(file)
    except DataError as error:
        return error


def _say_skipped(skipped: dict[Path, str], total: int) -> None:
    if skipped:
        named = ", ".join(f"{file} ({reason})" for file, reason in list(skipped.items())[:5])
        rest = len(skipped) - 5
        more = f" and {rest} more, all named in the run's config.json" if rest > 0 else ""
        warn(f"{len(skipped)} of {total} images cannot be read and are skipped: {named}{more}")


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
