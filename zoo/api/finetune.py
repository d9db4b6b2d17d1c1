"""Fine-tuning."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from zoo.api.build import build
from zoo.api.checkpoint import from_file
from zoo.api.job import Job, initial_weights, resumed
from zoo.api.pretrained import published, with_backbones
from zoo.api.records import default_tag
from zoo.api.source import Source, resolve
from zoo.api.trained import published_classes
from zoo.data.classes import classes_from
from zoo.errors import InputError, UsageError, WeightsError
from zoo.spec import Origin

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.training.metrics import Mean
    from zoo.training.recipe import Recipe
    from zoo.training.recipe_changes import RecipeChanges
    from zoo.training.recipe_files import RecipeFile
    from zoo.training.run import Run


def finetune(
    what: str | os.PathLike[str] | Run | nn.Module | None = None,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any] | None = None,
    *,
    val: Dataset[Any] | DataLoader[Any] | None = None,
    classes: Sequence[str] | None = None,
    pretrained: bool | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
    layout: str = "",
    model_args: Mapping[str, Any] | None = None,
    recipe: str | os.PathLike[str] | Recipe | RecipeFile = "finetune",
    out: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | Run | None = None,
    seed: int = 0,
    loss: Callable[[Any, Any, nn.Module], Tensor | Mean] | None = None,
    callback: Callable[[dict[str, float], nn.Module], None] | None = None,
    progress: bool = True,
    **changes: Unpack[RecipeChanges],
) -> Run:
    """Train a network on your data, a classifier with a new head for their classes, and
    write a run folder.

    `what` is a name, a run folder, a weights file of ours, or any module, which is
    trained in place; one whose output fits already keeps its last layer. A name starts
    from its published weights (`name.tag`: from those of the tag), and where nobody
    publishes any, or with `pretrained=False`, from random ones; or from those of the
    file `checkpoint_path`, whose key names are those of `layout`, as in `zoo.create`.
    The first line on stderr and `initial_weights` in config.json say which.

    `data`, for a classifier: `digits`, a folder (`train/` and `val/`, or as these are
    usually called, with a folder per class each; or the class folders, of which
    `val_fraction`, by default a fifth, is for validation), a Dataset of (image, class
    number) or a DataLoader, each with `val`; class numbers are int64 (N,), from 0 on,
    and are checked before training; other tasks open their own.

    `model_args` are arguments of the constructor of a network that is built by name
    (`{"hidden_size": 256}`); a recipe's file may name some too.

    `recipe` is a name, a TOML file or a Recipe, and `changes` are its fields, as
    `zoo finetune --help` explains them: `epochs`, `batch_size` ("auto" is the largest
    that is predicted to fit on the device, at most 256 and a tenth of the images),
    `optimizer`, `lr`, `weight_decay`, `val_fraction`, `input_size` (pixels: an int,
    (H, W) or (C, H, W)), `augment`, `workers`, `cpu`, `mixed_precision` and so on.

    `loss(outputs, batch, model)` replaces the network's own: a scalar, the mean over
    the batch, or a Mean with its own count. `callback(record, model)` is called after
    every epoch, with its numbers and the module. `out` is the run folder, by default
    the first free runs/NAME-DATA-N; nothing is overwritten. The random state is left as
    it was. The same seed gives the same split, and on a CPU the same run where torch's
    threads are as many.

    `resume` is a run that was stopped, in place of `what` and `data`: it goes on where
    its last checkpoint was saved, with the options that it was begun with, and on a CPU
    ends as if it had never been stopped. Data, modules and losses that are objects must
    be given again. Ctrl-C saves a checkpoint and raises KeyboardInterrupt.

    Under `torchrun` or `accelerate launch` the processes train one network together:
    `batch_size` is that of each, and the first one writes.

    Raises UsageError, and DataError for data that cannot be trained on, before training
    starts; WeightsError when published weights cannot be had; ZooError when the loss is
    no longer finite.
    """
    from zoo.training.recipe import plain
    from zoo.training.recipe_files import recipe_file

    if resume is not None:
        given = [name for name, value in (
            ("pretrained", pretrained), ("checkpoint_path", checkpoint_path), ("out", out),
            ("layout", layout or None), ("seed", seed or None), ("model_args", model_args),
            ("recipe", None if recipe == "finetune" else recipe),
        ) if value is not None]  # fmt: skip
        job = resumed(resume, what, data, [*given, *changes], loss is not None)
    else:
        found = recipe_file(recipe)
        chosen = found.recipe.changed(changes)  # first what is known without torch
        seed = plain(seed)
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise InputError(f"seed={seed!r}: needs a whole number from 0 on")
        if what is None or data is None:
            missing = "what to train" if what is None else "data to train on"
            raise UsageError(f"finetune needs {missing}, or resume=RUN")
        job = Job(
            what, data, chosen, seed, pretrained=pretrained, checkpoint_path=checkpoint_path,
            layout=layout, recipe_name=found.name,
            model_args={**found.model_args, **(model_args or {})},
            out=Path(out).expanduser() if out is not None else None,
        )  # fmt: skip
    return _train(job, val=val, classes=classes, loss=loss, callback=callback, progress=progress)


def _train(
    job: Job,
    *,
    val: Any,
    classes: Sequence[str] | None,
    loss: Callable[[Any, Any, nn.Module], Tensor | Mean] | None,
    callback: Callable[[dict[str, float], nn.Module], None] | None,
    progress: bool,
) -> Run:
    from zoo.tasks import task_of
    from zoo.training.place import check_free, check_place

    if job.out:
        check_free(job.out)
    elif not job.resumed:
        check_place()
    _check_data(job.data)
    source, checkpoint, fetched = _start(job)
    from zoo.training.environment import accelerator_for, seeded
    from zoo.transfer.finetune import train_network
    from zoo.transfer.training import Training
    from zoo.weights.cache import cache_folder

    task = task_of(source.task)()
    task.cache = cache_folder() / "features"
    if classes is None and task.keeps_classes:
        if fetched:
            source, fetched = published(source, progress), False
        classes = _trained_classes(source)
    split = task.open(
        job.data,
        val=val,
        classes=classes,
        val_fraction=job.recipe.val_fraction,
        test_fraction=job.recipe.test_fraction,
        seed=job.seed,
        progress=progress,
    )
    if isinstance(job.data, (str, os.PathLike)):
        kept = split.source if os.path.isabs(split.source) else os.fspath(job.data)
        split = replace(split, reopen=kept)
    if loss is None:
        with seeded(job.seed):
            task.check(split)
    if fetched:
        source = published(source, progress)
    elif source.origin and source.module is None and not source.weights and not checkpoint:
        args = {**source.origin.model_args, **job.model_args}
        source = replace(source, origin=replace(source.origin, model_args=args))
        if not (job.resumed and job.resumed.state):
            source = with_backbones(source, progress=progress)
    with seeded(job.seed), accelerator_for(job.recipe) as accelerator:
        model = source.module
        given = {key: job.model_args[key] for key in job.model_args if key not in source.backbones}
        model_args = {**given, **task.model_args(split, source.family)} if model is None else {}
        if job.recipe.aux:
            model_args["aux"] = True
        if model is None and checkpoint:
            model = from_file(source, checkpoint, job.layout, None, model_args)
        elif model is None:
            model = build(source, **model_args)
        found = getattr(model, "origin", None)
        origin = found if isinstance(found, Origin) else Origin("")
        asked = Training(
            split=split,
            recipe=job.recipe,
            task=task,
            accelerator=accelerator,
            name=origin.architecture or type(model).__name__.lower(),
            identity={
                "zoo_version": version("classic-zoo"),
                "architecture": origin.architecture,
                "tag": origin.tag,
                "model_args": dict(origin.model_args),
                "initial_weights": initial_weights(source, checkpoint),
                "begun": job.begun(loss),
                "initial_licence": _initial_licence(source),
            },
            seed=job.seed,
            family_loss=source.family.loss if source.family else None,
            loss=loss,
            out=job.out,
            resumed=job.resumed,
            callback=callback,
            progress=progress,
            features=task.cache,
        )
        return train_network(model, asked)


def _start(job: Job) -> tuple[Source, Path | None, bool]:
    """The network, the file that it starts from, and whether from its published
    weights. One that goes on from a checkpoint has its numbers there.
    """
    if job.resumed and job.resumed.state and isinstance(job.what, (str, os.PathLike)):
        return replace(resolve(job.resumed.run), weights=None, run=None), None, False
    checkpoint = _checkpoint(job.checkpoint_path, job.layout)
    source = resolve(job.what)
    source.require_whole("finetune")
    if source.run:
        source = replace(source, module=None)  # a network of its own, not the run's
    if checkpoint and (source.module is not None or source.weights):
        raise UsageError(f"{source.name} has its own weights: leave out checkpoint_path")
    if checkpoint and job.pretrained:
        raise UsageError("pretrained=True and checkpoint_path are two sets of weights: give one")
    built = source.module
    if built is not None and job.model_args:
        raise UsageError(f"{', '.join(job.model_args)}: {source.name} is built already")
    if built is not None and job.recipe.aux and getattr(built, "aux", None) is None:
        raise UsageError(f"aux=True: {source.name} is built already, without auxiliary heads")
    return source, checkpoint, not checkpoint and _wants_published(source, job.pretrained)


def _check_data(data: Any) -> None:
    """Raises UsageError for a path that there is not, whatever the task; a bare word
    may be the name of a data set.
    """
    named = isinstance(data, str) and ("/" in data or os.sep in data)
    if (named or isinstance(data, os.PathLike)) and not Path(data).exists():
        raise UsageError(f"there is no folder {os.fspath(data)!r} with data")


def _checkpoint(path: str | os.PathLike[str] | None, layout: str) -> Path | None:
    """The file to start from. Raises WeightsError when there is none."""
    if path is None:
        if layout:
            raise UsageError(
                f"layout={layout!r} says how a file's keys are named: checkpoint_path=…"
            )
        return None
    if not Path(path).exists():
        raise WeightsError(f"{os.fspath(path)}: no such weights file")
    return Path(path)


def _wants_published(source: Source, pretrained: bool | None) -> bool:
    """Whether to start from published weights: a name that has some, unless it is to
    start from nothing. Raises UsageError where there is no choice.
    """
    if source.module is not None or source.weights:
        if pretrained is not None:
            raise UsageError(f"{source.name} has its own weights: leave out pretrained")
        return False
    if pretrained is None and source.origin is not None:
        return bool(source.record or default_tag(source.origin.architecture, source.family))
    return bool(pretrained)


def _trained_classes(source: Source) -> tuple[str, ...] | None:
    """What the outputs of trained weights mean; None where there are no such."""
    if source.classes:
        return source.classes
    if source.module is not None:
        known = published_classes(source)
    elif source.record and source.record.classes:
        known = classes_from(source.record.classes)
    else:
        return None
    return known.names if known else None


def _initial_licence(source: Source) -> str:
    """The licence of published weights that a run starts from, also through another
    run; "" where it is not known.
    """
    if source.record and source.weights:
        return source.record.licence
    return str(source.run.config.get("initial_licence", "")) if source.run else ""
