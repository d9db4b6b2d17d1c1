"""How much of labelled data a trained network has right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.api.source import resolve
from zoo.api.trained import trained
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.tasks.scores import Evaluation
    from zoo.training.run import Run


def evaluate(
    what: str | os.PathLike[str] | Run | nn.Module,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any],
    *,
    classes: str | Sequence[str] | None = None,
    model: nn.Module | None = None,
    crops: int = 1,
    scales: Sequence[int] = (),
    resize: str = "",
    input_size: int | str | tuple[int, ...] | None = None,
    among: bool = False,
    batch_size: int = 32,
    workers: int | None = None,
    device: Any = None,
    progress: bool = True,
) -> Evaluation:
    """The share of images that a network has right: top-1 and top-5 accuracy in per
    cent with their 95 % confidence intervals, the number of images, and the protocol in
    words.

    `what` is a name, which gets its published weights, a run, a weights file of ours,
    or a module. `data` is a folder with a folder of images per class (of one with parts
    test/, else val/), `cifar10` (its test images in the folder that ZOO_DATA names),
    `digits`, a Dataset of (PIL image or tensor, class number) or a DataLoader of such
    batches of tensors.

    The classes of the data are matched to the network's by WordNet id, then by name;
    `classes` names those of a module in the order of its outputs (names, `imagenet` or
    `cifar10`), where its weights do not say them. Only data that name no classes have
    the network's outputs as class numbers. All outputs take part, also those of which
    the data have no images; `among` leaves only those of the data's classes.

    Images get the preprocessing of the weights. `crops`: 10 averages the softmax over
    four corners, the centre and their mirror images. `scales`: sides that the image's
    shorter one becomes, averaged over too. `resize`: "center" keeps the image's ratio,
    "squash" does not. `input_size`: of the crop, instead of the network's own. A run of
    a module that zoo did not create needs that module as `model`. `device`: by default
    a GPU where there is one; a module at hand stays where it is.

    Raises UsageError and DataError, also for classes that do not match.
    """
    import torch

    from zoo.tasks import task_of
    from zoo.tasks.base import EvaluationOptions

    source = resolve(what)
    source.require_whole("evaluate")
    task = task_of(source.task)()
    network = trained(source, "evaluate", classes, model)
    if source.module is None:
        network.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    elif device is not None:
        raise UsageError("device=… is for a name or a run: a module is where it is")
    options = EvaluationOptions(
        crops=crops,
        scales=scales,
        resize=resize,
        input_size=input_size,
        among=among,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
    )
    found: Evaluation = task.test(
        network.model,
        data,
        options,
        network=source.name,
        classes=network.classes,
        preprocessing=lambda: network.source.preprocessing,
    )
    return found
