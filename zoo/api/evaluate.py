"""How much of labelled data a trained network has right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.api.source import Source, resolve
from zoo.api.trained import trained
from zoo.errors import UsageError, warn

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.data.datasets import DataSplit
    from zoo.tasks.base import Task
    from zoo.tasks.scores import Evaluation, Evaluations
    from zoo.training.run import Run

    What = str | os.PathLike[str] | Run | nn.Module

SAME = ("reopen", "fingerprint", "split")  # of data with one division into parts


def evaluate(
    what: What | Sequence[What],
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any] | None = None,
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
) -> Evaluation | Evaluations:
    """The share of images that a network has right: top-1 and top-5 accuracy in per
    cent with their 95 % confidence intervals, the number of images, and the protocol in
    words.

    `what` is a name, which gets its published weights, a run, a weights file of ours,
    or a module; or a list of such, whose softmax is averaged: the result has a row for
    each and the average. Their classes must be the same.

    `data` is a folder with a folder of images per class (of one with parts test/, else
    val/), `cifar10` (its test images in the folder that ZOO_DATA names), `digits`, a
    Dataset of (PIL image or tensor, class number) or a DataLoader of such batches of
    tensors. Without it a run's own data are opened again, for the part that it reports
    on: the test images, or where it has none the validation images, which also chose
    its epoch. It is said where they have changed since.

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
    from zoo.tasks import task_of
    from zoo.tasks.base import EvaluationOptions, Tested
    from zoo.weights.cache import cache_folder

    sources = list(map(resolve, what if isinstance(what, (list, tuple)) else [what]))
    if not sources:
        raise UsageError("evaluate needs one network or more: the list is empty")
    if model is not None and len(sources) > 1:
        raise UsageError("model=… is the module of one run: here are several networks")
    for source in sources:
        source.require_whole("evaluate")
    tasks = sorted({source.task for source in sources})
    if len(tasks) > 1:
        raise UsageError(f"networks of the tasks {' and '.join(tasks)} have no common average")
    task = task_of(tasks[0])()
    task.cache = cache_folder() / "features"
    given = own_data(sources, task, progress) if data is None else data
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
    networks = []
    for source in sources:
        network = trained(source, "evaluate", classes, model)
        _place(source, network.model, device)
        networks.append(
            Tested(
                name=source.name,
                model=network.model,
                classes=network.classes,
                preprocessing=partial(getattr, network.source, "preprocessing"),
            )
        )
    found: Evaluation | Evaluations = task.test(networks, given, options)
    return found


def own_data(sources: Sequence[Source], task: Task, progress: bool = True) -> DataSplit:
    """The data of a run, opened and split again as for its training. Raises UsageError
    where that is not possible, or several runs had different data.
    """
    runs = [source.run for source in sources if source.run]
    if len(runs) < len(sources):
        named = next(source.name for source in sources if not source.run)
        raise UsageError(f"{named} is no run, whose own data are known: data=… says on what")
    recipe, seed = runs[0].config.get("recipe", {}), runs[0].config.get("seed", 0)
    known = runs[0].config.get("data", {})
    for run in runs[1:]:
        others = run.config.get("data", {})
        if [known.get(key) for key in SAME] != [others.get(key) for key in SAME]:
            raise UsageError(
                f"{runs[0].path} and {run.path} have different data, or split them differently: "
                "what one reports on may have trained the other; data=… says on what"
            )
    if not (reopen := known.get("reopen")):
        raise UsageError(
            f"the data of {runs[0].path} were objects of its process ({known.get('source')}): "
            "data=… says on what"
        )
    split = task.open(
        reopen,
        classes=runs[0].classes if task.keeps_classes else None,
        val_fraction=recipe.get("val_fraction"),
        test_fraction=recipe.get("test_fraction"),
        seed=seed,
        progress=progress,
    )
    now = split.record()
    if any(known.get(key) != now[key] for key in ("fingerprint", "split")):
        warn(
            f"{split.source} has changed since {runs[0].path} was trained on it: images may be "
            "among these that it was trained on"
        )
    return split


def _place(source: Source, model: nn.Module, device: Any) -> None:
    """Where it computes: a module at hand stays where it is."""
    import torch

    if source.module is None:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    elif device is not None:
        raise UsageError("device=… is for a name or a run: a module is where it is")
