"""What a network makes of images, stage by stage."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.api.source import resolve
from zoo.api.trained import trained
from zoo.errors import UsageError, check_choice
from zoo.weights.cache import cache_folder

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.training.run import Run
    from zoo.transfer.features import Features

PARTS = ("train", "val")


def features(
    what: str | os.PathLike[str] | Run | nn.Module,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any],
    *,
    stage: str | Sequence[str] = "pre_logits",
    part: str | None = None,
    mirrored: bool = False,
    model: nn.Module | None = None,
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    mixed_precision: str = "no",
    val_fraction: float | None = None,
    seed: int = 0,
    device: Any = None,
    cache: bool = True,
    progress: bool = True,
) -> Features:
    """Features of images by a trained classifier in evaluation mode: `.x` (N, D) in
    float32 and the class numbers `.y` (N,), on the CPU, in the order of the data;
    `.widths` has the columns of each stage, `.of(stage)` is that stage alone.

    `what` is as in `zoo.evaluate`. `stage`, or several, whose columns stand side by
    side: a layer group's name (its output, of a map the mean of each channel),
    `pre_logits`, what the head takes, or `input`, the pixels as the network takes them.

    `data` is `digits` or a folder, of which `part` is "train" (the default) or "val",
    as `zoo.finetune` splits them with `val_fraction` and `seed`; or a Dataset of
    (image, class number) or a DataLoader, all of it. Images get the network's
    preprocessing, without augmentation; `mirrored`: the mean over each and its mirror
    image.
    `mixed_precision`: "no", "bf16" or "fp16". `device`: by default a GPU where there is
    one; a module stays where it is.

    All stages take one pass. They are kept in `ZOO_CACHE`/features, unless `cache` is
    False, and there again at once for the same weights, images and options; data with
    transforms of your own are not kept. Nothing is ever removed there.

    Raises UsageError, also for a stage that there is not, and DataError.
    """
    import torch
    from torch.utils.data import DataLoader

    from zoo.tasks import task_of
    from zoo.training.recipe import Recipe
    from zoo.transfer.features import compute_features
    from zoo.transfer.stages import check_stages

    named = isinstance(data, (str, os.PathLike))
    if named:
        check_choice("features", "part", part or PARTS[0], PARTS)
    elif part is not None:
        raise UsageError("part=… is for a folder or digits: of a Dataset all is taken")
    source = resolve(what)
    source.require_whole("features")
    network = trained(source, "features", None, model).model
    if source.module is None:
        network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    elif device is not None:
        raise UsageError("device=… is for a name or a run: a module is where it is")
    check_stages(network, stage)
    recipe = Recipe(
        augment="none", cache="off", input_size=input_size, workers=workers, batch_size=batch_size
    )
    task = task_of(source.task)()
    split = task.open(
        data,
        val=None if named else data,
        val_fraction=val_fraction,
        seed=seed,
        progress=progress,
    )
    split = task.prepare(network, split, recipe).split
    chosen = split.train if part != "val" else split.val
    loader = chosen
    if not isinstance(chosen, DataLoader):
        _, loader = task.loaders(replace(split, val=chosen), recipe, batch_size=batch_size, seed=0)
    return compute_features(
        network,
        loader,
        stage,
        classes=split.classes,
        mirrored=mirrored,
        mixed_precision=mixed_precision,
        cache=cache_folder() / "features" if cache else None,
        progress=progress,
        on_device=task.on_device,
    )
