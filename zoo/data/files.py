"""Image files of known classes, whatever lists them: checked, split, and counted."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from zoo.data.datasets import DataSplit, ImageDataset
from zoo.data.image import EXTENSIONS, inspect_image
from zoo.data.splits import Fractions
from zoo.data.walk import Listing
from zoo.errors import DataError, warn

MAX_CHECKED = 20_000  # files that are decoded before training: a few seconds to half a minute


@dataclass(frozen=True, kw_only=True)
class FileParts:
    """Files by part ("train", "val", "test") and class."""

    name: str
    source: str
    root: Path  # what the files are named from
    listings: Mapping[str, Listing]
    titles: Mapping[str, str]  # of the parts: folders, the rows of a table
    words: Mapping[str, str]  # the same in short: train/
    left_out: Mapping[Path, str] = field(default_factory=dict)  # file: reason


def open_files(
    given: FileParts, fractions: Fractions, *, seed: int = 0, progress: bool = True
) -> DataSplit:
    """Split the training files where their parts are wanted.

    Every image is decoded once, of very many MAX_CHECKED, spread evenly. Unreadable
    ones are left out and said; whatever makes training impossible raises DataError
    here, before it starts.
    """
    _check_classes(given)
    files = [file for each in given.listings.values() for some in each.values() for file in some]
    checked = files[:: -(-len(files) // MAX_CHECKED)]
    if len(checked) < len(files):
        warn(
            f"{len(checked):,} of the {len(files):,} images are checked now, the others when they "
            "are read"
        )
    found, skipped = scan(checked, progress=progress)
    _say_skipped(skipped, len(checked))
    classes = tuple(given.listings["train"])
    parts: dict[str, Any] = {
        part: _checked(
            {name: [file for file in files if file not in skipped] for name, files in each.items()},
            given.titles[part],
            needed=fractions.parts if part == "train" else 1,
        )
        for part, each in given.listings.items()
    }
    images, targets = parts["train"].images, parts["train"].targets
    for part, chosen in fractions.divide(targets, seed).items():
        parts[part] = ImageDataset([images[i] for i in chosen], [targets[i] for i in chosen])
    if not found:
        raise DataError(f"none of the {len(checked):,} images that were checked can be read")
    widths, heights = zip(*(size for _, size in found.values()), strict=True)
    return DataSplit(
        name=given.name,
        source=given.source,
        classes=classes,
        **parts,
        split=_split_in_words(given, fractions, seed),
        size=(int(median(widths)), int(median(heights))),
        skipped={
            _named(file, given.root): reason
            for file, reason in {**skipped, **given.left_out}.items()
        },
        image_modes=Counter(mode for mode, _ in found.values()),
    )


def from_listing(listing: Listing) -> ImageDataset:
    """All its files, which are not opened."""
    images = [file for files in listing.values() for file in files]
    return ImageDataset(
        images, [number for number, files in enumerate(listing.values()) for _ in files]
    )


def class_names(names: Sequence[str]) -> str:
    """The first few, quoted."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def _checked(listing: Listing, title: str, *, needed: int) -> ImageDataset:
    """Raises DataError for a class with too few."""
    for name, files in listing.items():
        if len(files) < needed:
            count = f"{len(files) or 'no'} readable image{'s' if len(files) > 1 else ''}"
            raise DataError(
                f"class {name!r} has {count} in {title}: "
                f"needs {needed} or more, or remove that class"
            )
    return from_listing(listing)


def _split_in_words(given: FileParts, fractions: Fractions, seed: int) -> str:
    """`train/ and val/`, `stratified, 20% for validation, seed 0`, …"""
    drawn = fractions.words(seed)
    if len(given.words) == 1:
        return drawn
    *first, last = given.words.values()
    words = f"{', '.join(first)} and {last}"
    return f"{words}; of {first[0]} {drawn}" if drawn else words


def _named(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _check_classes(given: FileParts) -> None:
    """Raises DataError without images or with one class, and for a class that a part
    does not have.
    """
    if not any(files for each in given.listings.values() for files in each.values()):
        raise DataError(
            f"there are no images in {given.source}: it has no file named "
            f"{' '.join(sorted(EXTENSIONS))}"
        )
    for part, listing in given.listings.items():
        for other, rest in given.listings.items():
            if only := [name for name in listing if name not in rest]:
                raise DataError(
                    f"class {class_names(only)} is in {given.words[part]} but not in "
                    f"{given.words[other]} of {given.source}: every class needs images in each part"
                )
        if len(listing) == 1:
            raise DataError(
                f"{given.titles[part]} has only one class, {next(iter(listing))!r}: "
                "needs two or more classes"
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
