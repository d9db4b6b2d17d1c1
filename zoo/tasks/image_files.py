"""Image files in batches, with what is wrong with those that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data.image import is_image_name, open_image
from zoo.errors import DataError, warn

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
BATCH = 32  # images


def image_files(files: Files) -> list[Path]:
    """Paths of the files; a folder stands for the images in it and in its folders.
    Raises DataError when there is none.
    """
    given = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    found: list[Path] = []
    for path in map(Path, given):
        found += _images_in(path) if path.is_dir() else [path]
    if not found:
        raise DataError("there are no files to predict")
    return found


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder, then those of each folder in it; hidden ones and links to
    folders are left out.
    """
    found: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += filter(is_image_name, (Path(where, name) for name in sorted(names)))
    if not found:
        raise DataError(f"there are no images in {folder}")
    inside = {path.parent for path in found} - {folder}
    if inside:
        count = "1 folder" if len(inside) == 1 else f"{len(inside)} folders"
        warn(f"{folder}: {len(found)} images, also those of {count} in it")
    return found


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def read_files(
    paths: Sequence[Path], transform: Callable[[Any], Tensor], workers: int = 0
) -> Iterator[list[tuple[Path, Tensor | str]]]:
    """Batches of (file, its tensor or what is wrong with it). `workers`: processes that
    read many files, while the network computes.
    """
    some = len(paths) > 2 * BATCH  # else the processes take longer to start
    files = _Files(paths, transform)
    yield from DataLoader(files, BATCH, num_workers=workers if some else 0, collate_fn=list)


class _Files(Dataset[tuple[Path, "Tensor | str"]]):
    """Files with their inputs, or what is wrong with them."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Any], Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Path, Tensor | str]:
        return self.paths[number], _read(self.paths[number], self.transform)


def _read(path: Path, transform: Callable[[Any], Tensor]) -> Tensor | str:
    """The input tensor of a file, or what is wrong with it."""
    try:
        image = open_image(path)
    except DataError as error:
        return str(error)
    try:
        return transform(image)
    except DataError as error:
        return f"{path}: {error}"
    except MemoryError:
        return f"{path}: too large for the memory"
