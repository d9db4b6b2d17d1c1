"""A network and the data of a task in, a run folder out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.data.datasets import DataSplit
from zoo.errors import ZooError
from zoo.formatting import short
from zoo.optimizers import make_optimizer
from zoo.spec import Preprocessing
from zoo.tasks.base import Prepared, Task
from zoo.training.environment import forward_restored, seeded, thread_count, threads_for
from zoo.training.loop import Loss, fit
from zoo.training.metrics import Record
from zoo.training.parameters import decay_groups
from zoo.training.progress import Progress
from zoo.training.recipe import Recipe
from zoo.training.run import Run, RunFolder
from zoo.training.schedule import warmup_cosine
from zoo.transfer.batch_size import DEFAULT_BATCH, auto_batch_size
from zoo.transfer.heads import fit_head, output_width

if TYPE_CHECKING:
    from accelerate import Accelerator

Callback = Callable[[Record, nn.Module], None]


def train_network(
    model: nn.Module,
    split: DataSplit,
    recipe: Recipe,
    task: Task,
    *,
    accelerator: Accelerator,
    name: str,
    identity: Mapping[str, Any],
    seed: int,
    family_loss: Loss | None = None,
    loss: Loss | None = None,
    out: Path | None = None,
    callback: Callback | None = None,
    progress: bool = True,
) -> Run:
    """Give `model` a head for the data's classes where its task has such, train it, and
    write the run folder.

    `identity` goes into config.json: what rebuilds the network. A family's loss takes
    the place of the task's, and the user's `loss` that of both.
    """
    prepared = task.prepare(model, split, recipe)
    batch_size = _batch_size(model, prepared, recipe, accelerator, task=task, loss=family_loss)
    train, val = task.loaders(
        prepared.split,
        recipe,
        batch_size=batch_size,
        seed=seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    classes, num_classes = split.classes, 0
    inputs = task.head_inputs(val)
    if inputs is not None:
        classes = classes or tuple(map(str, range(output_width(model, inputs))))
        num_classes = len(classes)
        model = fit_head(model, num_classes, inputs)
    if loss is None and classes != split.classes:  # their number is known only now
        with seeded(seed):
            task.check(replace(split, classes=classes))
    if prepared.preprocessing and isinstance(getattr(model, "preprocessing", None), Preprocessing):
        model.preprocessing = prepared.preprocessing  # type: ignore[assignment]
    optimizer = make_optimizer(
        recipe.optimizer, decay_groups(model), recipe.lr, recipe.weight_decay
    )
    chosen = replace(
        recipe,
        batch_size=batch_size,
        lr=optimizer.defaults["lr"],
        weight_decay=optimizer.defaults["weight_decay"],
        mixed_precision=str(accelerator.mixed_precision),
        workers=getattr(train, "num_workers", recipe.workers),
    )
    config = {
        **identity,
        **_facts(task, prepared),
        "module": type(model).__name__,
        "num_classes": num_classes,
        "classes": list(classes),
        "data": {
            **split.record(),
            f"train_{task.unit}": task.count(train),
            f"val_{task.unit}": task.count(val),
        },
        "recipe": chosen.to_dict(),
        "seed": seed,
        "device": str(accelerator.device),
        "threads": thread_count(model),
    }
    stem = re.sub(r"[^\w.-]+", "_", f"{name}-{split.name}")
    folder = RunFolder(out, stem, config, task.chart_metrics)
    bar = Progress(
        recipe.epochs,
        task.count(train),
        unit=task.unit,
        metrics=task.chart_metrics,
        show=progress,
    )

    def after_epoch(record: Record, module: nn.Module) -> None:
        folder.epoch(record, module)
        if callback:
            callback(record, module)

    with folder, bar, threads_for(model), forward_restored(model), _one_line():
        bar.say(_start_line(name, model, task.unit, folder.config))
        history = fit(
            model,
            train,
            val,
            optimizer,
            warmup_cosine(optimizer, recipe.epochs * len(train)),
            step=task.step(prepared.split, loss or family_loss),
            epochs=recipe.epochs,
            accelerator=accelerator,
            progress=bar,
            after_epoch=after_epoch,
            unit=task.unit,
        )
    return Run(folder.path, folder.config, history, model)


def _start_line(name: str, model: nn.Module, unit: str, config: Mapping[str, Any]) -> str:
    """What is trained, from which weights, on what, and how."""
    weights, data, recipe = config["initial_weights"], config["data"], config["recipe"]
    classes = f" of {config['num_classes']:,} classes" if config["num_classes"] else ""
    return (
        f"{name} ({short(sum(each.numel() for each in model.parameters()))} parameters) from "
        f"{'random weights' if weights == 'random' else weights}; {data[f'train_{unit}']:,} {unit}"
        f"{classes}, {data[f'val_{unit}']:,} for validation; {recipe['epochs']} "
        f"epoch{'s' if recipe['epochs'] > 1 else ''}, {recipe['optimizer']} {recipe['lr']:g}, "
        f"{config['device']}"
    )


@contextmanager
def _one_line() -> Iterator[None]:
    """Our error in a process that reads data: torch wraps it in that process's
    traceback, whose last line it is.
    """
    try:
        yield
    except ZooError as error:
        lines = str(error).strip().splitlines()
        if len(lines) < 2:
            raise
        raise type(error)(lines[-1].partition(": ")[2]) from error


def _facts(task: Task, prepared: Prepared) -> dict[str, Any]:
    """What config.json says beside the network, the data and the recipe."""
    preprocessing = prepared.preprocessing
    return {
        "torch_version": str(torch.__version__),
        "task": task.name,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "preprocessing": preprocessing.to_dict() if preprocessing else None,
    }


def _batch_size(
    model: nn.Module,
    prepared: Prepared,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    task: Task,
    loss: Loss | None,
) -> int:
    if not isinstance(recipe.batch_size, str):
        return recipe.batch_size
    if prepared.preprocessing is None:  # only of images it is known what a batch is
        return DEFAULT_BATCH
    return auto_batch_size(
        model,
        prepared.preprocessing.input_size,
        len(prepared.split.train),
        task=task,
        loss=loss,
        optimizer=recipe.optimizer,
        accelerator=accelerator,
    )
