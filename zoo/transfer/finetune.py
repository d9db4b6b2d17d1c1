"""A network and the data of a task in, a run folder out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.data.datasets import DataSplit
from zoo.errors import UsageError, ZooError
from zoo.formatting import short
from zoo.spec import Preprocessing
from zoo.tasks.base import Prepared, Task
from zoo.training.environment import forward_restored, seeded, thread_count, threads_for
from zoo.training.interrupts import Stopped
from zoo.training.loop import Loop, TrainState
from zoo.training.metrics import Record
from zoo.training.progress import Progress
from zoo.training.recipe import Recipe
from zoo.training.run import Run, early_stop
from zoo.training.run_folder import RunFolder
from zoo.training.schedule import make_schedule
from zoo.training.shared_folder import folder_of
from zoo.training.step import Loss
from zoo.transfer.batch_size import DEFAULT_BATCH, auto_batch_size
from zoo.transfer.heads import fit_head, output_width
from zoo.transfer.param_groups import recipe_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

Callback = Callable[[Record, nn.Module], None]


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A run that goes on. `state` is None where it was stopped before the first
    checkpoint.
    """

    run: Run
    state: TrainState | None


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
    resumed: Resumed | None = None,
    callback: Callback | None = None,
    progress: bool = True,
) -> Run:
    """Give `model` a head for the data's classes where its task has such, train it, and
    write the run folder; or go on with a run that was stopped.

    `identity` goes into config.json: what rebuilds the network. A family's loss takes
    the place of the task's, and the user's `loss` that of both. Of several processes
    the first writes.
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
    optimizer = recipe_optimizer(recipe, model)
    schedule = make_schedule(
        recipe,
        optimizer,
        recipe.epochs * len(train),
        len(train),
        higher_is_better=task.higher_is_better,
    )
    chosen = replace(
        recipe,
        batch_size=batch_size,
        lr=optimizer.defaults["lr"],
        weight_decay=optimizer.defaults["weight_decay"],
        mixed_precision=str(accelerator.mixed_precision),
        workers=getattr(train, "num_workers", recipe.workers),
        cache="on" if prepared.split.cached else "off",
    )
    config = {
        **identity,
        **_facts(task, prepared),
        "module": type(model).__name__,
        "num_classes": num_classes,
        "classes": list(classes),
        "data": {
            **split.record(),
            "skipped": prepared.split.skipped,
            f"train_{task.unit}": task.count(train),
            f"val_{task.unit}": task.count(val),
            **({f"test_{task.unit}": len(split.test)} if split.test else {}),
        },
        "recipe": chosen.to_dict(),
        "seed": seed,
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": thread_count(model),
    }
    if resumed:
        _check_same(resumed.run, config)
    folder = folder_of(
        accelerator,
        RunFolder(
            out,
            re.sub(r"[^\w.-]+", "_", f"{name}-{split.name}"),
            config,
            task.chart_metrics,
            resumed=resumed.run if resumed else None,
        ),
    )
    bar = Progress(
        recipe.epochs,
        task.count(train),
        unit=task.unit,
        metrics=task.chart_metrics,
        show=progress and accelerator.is_main_process,
    )

    def after_epoch(record: Record, module: nn.Module) -> None:
        folder.epoch(record, module)
        # a loss of the user's own may measure nothing else
        other = -record["val_loss"] if task.higher_is_better else record["val_loss"]
        schedule.end_epoch(record.get(f"val_{task.metric}", other))
        if callback:
            callback(record, module)

    with folder, bar, threads_for(model), forward_restored(model), _one_line():
        if not resumed:
            bar.say(_start_line(name, model, task.unit, folder.config))
        loop = Loop(
            model,
            train,
            val,
            optimizer,
            schedule,
            step=task.step(prepared.split, loss or family_loss),
            epochs=recipe.epochs,
            accelerator=accelerator,
            progress=bar,
            after_epoch=after_epoch,
            save=folder.save,
            stop=early_stop(folder.config, recipe.patience),
            unit=task.unit,
            metric=task.metric,
            limit=-(-batch_size // recipe.accumulation),
            clip=recipe.clip,
            ema=recipe.ema,
        )
        if accelerator.process_index:  # what is drawn in training, each process draws itself
            torch.manual_seed(seed + accelerator.process_index)
        if resumed and resumed.state:
            loop.load_state_dict(resumed.state)
            folder.rewind(loop.history, loop.trained, whole=not loop.averages.batches)
            bar.say(_going_on(folder.path, loop))
        try:
            history = loop.run()
        except Stopped as error:
            raise Stopped(
                f"stopped in epoch {loop.epoch}: `zoo finetune --resume "
                f"{shlex.quote(str(folder.path))}` goes on from there"
            ) from error
        folder.finish()
    return Run(folder.path, folder.config, history, model)


def _going_on(path: Path, loop: Loop) -> str:
    batches = f", {loop.averages.batches} batches of it done" if loop.averages.batches else ""
    return f"{path} goes on in epoch {loop.epoch} of {loop.epochs}{batches}"


def _check_same(run: Run, config: Mapping[str, Any]) -> None:
    """Raises UsageError where a run that goes on would not be the same run."""
    for key, words in (
        ("classes", "other classes"),
        ("data", "other data"),
        ("processes", "another number of processes"),
    ):
        before, now = run.config.get(key), json.loads(json.dumps(config[key]))
        if before != now:
            different = ""
            if isinstance(before, dict):
                parts = [part for part in {*before, *now} if before.get(part) != now.get(part)]
                different = f" ({', '.join(sorted(parts))})"
            raise UsageError(f"{run.path} was begun with {words}{different}: it cannot go on")


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
