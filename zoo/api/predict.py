"""Predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zoo.api.build import build, classes_of
from zoo.api.pretrained import published
from zoo.api.records import default_tag
from zoo.api.source import Source, resolve
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
    classes: Sequence[str] | None = None,
    model: nn.Module | None = None,
    transform: Callable[[Any], Tensor] | None = None,
) -> Predictions:
    """The `top` likeliest classes of image files (a folder stands for the images in it
    and in its folders) with their probabilities, file by file: a list of Prediction,
    shown as a table; `.plot("predictions.png")` draws the images with their labels.

    `what` is a name, which takes its published weights, a run (its folder or the
    object), a weights file of ours, or a module together with the names of its
    `classes`; the classes of a name are numbers unless they are named. A run of a
    module that zoo did not create needs that module as `model`, which gets the run's
    best weights; a run on tensors of your own needs `transform`, image to tensor (C, H,
    W). A file that cannot be read gets a prediction whose `error` says why. Raises
    UsageError, also for a network whose task makes no predictions, and WeightsError
    where published weights cannot be had.
    """
    from zoo.data.image import EvalTransform
    from zoo.tasks import task_of

    source = resolve(what)
    source.require_whole("predict")
    task = task_of(source.task)()
    if not task.predicts:
        raise UsageError(f"{source.name}: the task {task.name} makes no predictions")
    if source.weights is None and source.module is None:
        source = _published(source)
    network = _network(source, classes, model)
    if transform is None and source.takes_images:
        transform = EvalTransform(source.preprocessing)
    names = source.classes if classes is None else classes
    if source.record and classes is None:
        names = tuple(map(str, range(classes_of(network, source))))
    return task.predict(network, files, classes=names, transform=transform, top=top)


def _published(source: Source) -> Source:
    """A network by name with its published weights. Raises UsageError where nobody
    publishes any, WeightsError where they cannot be had.
    """
    assert source.origin is not None
    if not (source.record or default_tag(source.origin.architecture, source.family)):
        raise UsageError(
            f"{source.name} has no weights to predict with: `zoo finetune {source.name} "
            "--data …` makes a run folder, predict takes that"
        )
    return published(source)


def _network(source: Source, classes: Any, model: nn.Module | None) -> nn.Module:
    """The network with the numbers to predict with. Raises UsageError where it, or the
    names of its classes, are not known.
    """
    if source.weights is None:
        assert source.module is not None
        if classes is None or model is not None:
            raise UsageError(
                "predict with a module needs the names of its classes (classes=…), and no "
                "second module"
            )
        return source.module
    if classes is not None and not source.record:
        raise UsageError("a run has its own classes: leave classes out")
    run, module = source.run, model if model is not None else source.module
    if run and module is not None:
        return run.load_best(module)
    if run and source.origin is None:
        raise UsageError(
            f"{run.path} is of a {run.config['module']} that zoo did not create: "
            "predict(run, files, model=…) takes that"
        )
    return build(source)
