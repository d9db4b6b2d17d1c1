"""The images of a split as a network takes them: prepared whenever they are read, or
decoded once and held in memory, where they fit.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo.data.datasets import DataSplit, ImageDataset, transformed
from zoo.data.image import EvalTransform, convert, decode
from zoo.data.pixels import PixelDataset, PixelTransform, fits_pixels, to_image
from zoo.data.transforms import train_transform
from zoo.errors import DataError, warn
from zoo.spec import Preprocessing

SHARE = 0.25  # of the free memory, for images


def prepared(
    split: DataSplit,
    preprocessing: Preprocessing,
    augment: str,
    *,
    cache: str = "auto",
    progress: bool = True,
) -> DataSplit:
    """The split with the preprocessing of a network, in training with `augment`.

    `cache`: "on" holds the decoded images in memory, "auto" where they fit into a
    quarter of what is free; `split.cached` says which it became. The images are the
    same either way; what is drawn for them is not.
    """
    whole = fits_pixels(augment)
    size = _bytes(split, preprocessing, whole)
    if cache == "off" or not size or (cache == "auto" and size > SHARE * free_memory()):
        evaluate = EvalTransform(preprocessing)
        train = (
            evaluate if augment == "none" else train_transform(preprocessing, augment, split.train)
        )
        return replace(
            split,
            train=transformed(split.train, train),
            val=transformed(split.val, evaluate),
            test=transformed(split.test, evaluate) if split.test else None,
            cached=False,
        )
    skipped: dict[str, str] = {}
    options: Any = {"skipped": skipped, "progress": progress}
    evaluation = PixelTransform(preprocessing)
    held: dict[str, Any] = {
        part: _pixels(dataset, preprocessing, evaluation, **options)
        for part, dataset in (("val", split.val), ("test", split.test))
        if dataset
    }
    if whole:
        squashed = replace(preprocessing, crop_mode="squash", crop_pct=1.0)
        geometry = preprocessing if augment == "none" else squashed
        transform = PixelTransform(preprocessing, augment)
        held["train"] = _pixels(split.train, geometry, transform, **options)
    else:
        train = train_transform(preprocessing, augment, split.train)
        held["train"] = _decoded(split.train, preprocessing, train, **options)
    if skipped:
        named = ", ".join(f"{file} ({reason})" for file, reason in list(skipped.items())[:5])
        warn(f"{len(skipped)} images cannot be read and are skipped: {named}")
    return replace(split, **held, skipped={**split.skipped, **skipped}, cached=True)


def free_memory() -> int:
    """Bytes that this process may still take, of the machine's or of its container's
    memory, shared with the other processes of a run on this machine.
    """
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in _lines("/proc/meminfo"):  # with what the system would give back
        if line.startswith("MemAvailable:"):
            free = [1024 * int(line.split()[1])]
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0].isdigit():
        free.append(int(limit[0]) - int(used[0]))
    return max(min(free), 0) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _bytes(split: DataSplit, preprocessing: Preprocessing, whole: bool) -> int:
    """About how many the images take in memory; 0 for data that a user's own code
    gives, which may draw at random.
    """
    parts = [part for part in (split.train, split.val, split.test) if part]
    if not split.size or not all(isinstance(part, (ImageDataset, PixelDataset)) for part in parts):
        return 0
    channels, height, width = preprocessing.input_size
    small = channels * height * width
    count = sum(map(len, parts))
    if whole:
        return count * small
    # Pillow takes four bytes for a pixel in colour
    decoded = (4 if channels == 3 else 1) * split.size[0] * split.size[1]
    return len(split.train) * decoded + (count - len(split.train)) * small


def _pixels(
    dataset: Any, geometry: Preprocessing, transform: PixelTransform, **options: Any
) -> PixelDataset:
    """All images at the size of the network's input."""
    channels, height, width = geometry.input_size
    fits = isinstance(dataset, PixelDataset) and dataset.data.shape[1:] == geometry.input_size
    if fits and geometry.crop_pct == 1:
        return PixelDataset(dataset.data, dataset.targets, transform)
    crop = EvalTransform(geometry).crop
    data = torch.empty((len(dataset), channels, height, width), dtype=torch.uint8)
    targets: list[int] = []
    for image, target in _images(dataset, crop, **options):
        data[len(targets)] = _bytes_of(image)
        targets.append(target)
    return PixelDataset(data[: len(targets)], targets, transform)


def _decoded(
    dataset: Any, preprocessing: Preprocessing, transform: Callable[[Any], Any], **options: Any
) -> ImageDataset:
    """All images as they are, in the network's colours."""
    channels = preprocessing.input_size[0]
    pairs = list(_images(dataset, lambda image: convert(image, channels), **options))
    images, targets = zip(*pairs, strict=True)
    return ImageDataset(images, targets, transform)


def _bytes_of(image: Any) -> torch.Tensor:
    """(C, H, W) uint8 of a PIL image."""
    import numpy

    pixels = torch.from_numpy(numpy.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _images(
    dataset: ImageDataset | PixelDataset,
    change: Callable[[Any], Any],
    *,
    skipped: dict[str, str],
    progress: bool,
) -> Iterator[tuple[Any, int]]:
    """Changed images with their class numbers, without those that cannot be read."""
    from rich.console import Console
    from rich.progress import track

    given: Any = dataset.data if isinstance(dataset, PixelDataset) else dataset.images

    def read(image: Any) -> Any:
        try:
            if isinstance(image, Path):
                return change(decode(image))
            return change(to_image(image) if isinstance(image, torch.Tensor) else image)
        except DataError as error:
            return error

    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks; set here, as it is not safe in threads
        results: Iterable[Any] = track(
            pool.map(read, given), "reading images", len(given),
            console=console, transient=True, disable=hidden,
        )  # fmt: skip
        for image, result, target in zip(given, results, dataset.targets, strict=True):
            if isinstance(result, DataError):
                skipped[str(image)] = str(result)
            else:
                yield result, target
