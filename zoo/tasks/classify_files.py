"""Class probabilities of image files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from zoo.data.classes import class_named
from zoo.data.image import is_image_name, open_image
from zoo.errors import DataError, InputError, warn
from zoo.tasks.layout import evaluation_layout
from zoo.tasks.predictions import Prediction, Predictions

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
PREDICTION_BATCH = 32  # images


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


def classify_files(
    model: nn.Module,
    files: Files,
    *,
    transform: Callable[[Any], Tensor],
    classes: Sequence[str],
    top: int = 5,
    workers: int = 0,
) -> Predictions:
    """The `top` likeliest classes of each file, in the order of the files. A file that
    cannot be read has `error` set. `workers`: processes that read many files, while the
    network computes.
    """
    if top < 1:
        raise InputError(f"top={top}: needs a whole number from 1 on")
    paths = image_files(files)
    predictions = Predictions()
    known = frozenset(classes)
    some = len(paths) > 2 * PREDICTION_BATCH  # else the processes take longer to start
    read = DataLoader(
        _Files(paths, transform),
        PREDICTION_BATCH,
        num_workers=workers if some else 0,
        collate_fn=list,
    )
    for batch in read:
        readable = [image for _, image in batch if isinstance(image, Tensor)]
        rows = iter(_probabilities(model, torch.stack(readable)) if readable else ())
        for path, image in batch:
            truth = class_named(path.absolute().parent.name, known)
            if isinstance(image, Tensor):
                scores = _scores(next(rows), classes, top)
                predictions.append(Prediction(path, scores, truth=truth))
            else:
                predictions.append(Prediction(path, error=image, truth=truth))
    return predictions


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


@torch.no_grad()
def _probabilities(model: nn.Module, images: Tensor) -> Tensor:
    training = model.training
    device = next((parameter.device for parameter in model.parameters()), images.device)
    try:
        given = evaluation_layout(images.to(device))
        return model.eval()(given).softmax(1).cpu()  # (N, classes)
    finally:
        model.train(training)


def _scores(row: Tensor, classes: Sequence[str], top: int) -> tuple[tuple[str, float], ...]:
    if len(row) != len(classes):
        raise InputError(f"the network gives {len(row)} classes, {len(classes)} are named")
    values, indices = row.topk(min(top, len(row)))
    return tuple(
        (classes[index], value)
        for index, value in zip(indices.tolist(), values.tolist(), strict=True)
    )
