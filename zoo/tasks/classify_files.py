"""Class probabilities of image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data.classes import class_named
from zoo.errors import InputError
from zoo.tasks.image_files import Files, image_files, read_files
from zoo.tasks.layout import evaluation_layout
from zoo.tasks.predictions import Prediction, Predictions


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
    for batch in read_files(paths, transform, workers):
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
