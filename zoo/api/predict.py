"""Predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zoo.api.source import resolve
from zoo.api.trained import trained
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.tasks.predictions import Predictions
    from zoo.training.run import Run


def predict(
    what: str | os.PathLike[str] | Run | nn.Module,
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    top: int = 5,
    classes: str | Sequence[str] | None = None,
    model: nn.Module | None = None,
    transform: Callable[[Any], Tensor] | None = None,
    fold: bool = False,
    channels_last: bool = False,
) -> Predictions:
    """The `top` likeliest classes of image files (a folder stands for the images in it
    and in its folders) with their probabilities, file by file: a list of Prediction,
    shown as a table; `.plot("predictions.png")` draws the images with their labels.

    `what` is a name, which gets its published weights and their classes, a run (its
    folder or the object), a weights file of ours, or a module together with the names
    of its `classes` (or `imagenet`, `cifar10`) where it has no published weights. A run
    of a module that zoo did not create needs that module as `model`, which gets the
    run's best weights; a run on tensors of your own needs `transform`, image to tensor
    (C, H, W). `fold` computes each batch norm directly behind a convolution in it, and
    `channels_last` the convolutions in NHWC: faster on many machines, the same within
    rounding; a module itself stays as it is. A file that cannot be read gets a
    prediction whose `error` says why. Raises UsageError, also for a network whose task
    makes no predictions.
    """
    from zoo.data.image import EvalTransform
    from zoo.tasks import task_of

    source = resolve(what)
    source.require_whole("predict")
    task = task_of(source.task)()
    if not task.predicts:
        raise UsageError(f"{source.name}: the task {task.name} makes no predictions")
    network = trained(source, "predict", classes, model)
    if network.classes is None and source.weights is None:
        raise UsageError(
            f"predict with {source.name} needs the names of its classes, in the order of its "
            "outputs: classes=… (or: imagenet, cifar10)"
        )
    if transform is None and source.takes_images:
        transform = EvalTransform(network.source.preprocessing)
    names = network.classes.names if network.classes else ()
    used = network.model
    if fold or channels_last:
        from zoo.tasks.inference import for_inference

        used = for_inference(used, fold=fold, channels_last=channels_last)
    return task.predict(used, files, classes=names, transform=transform, top=top)
