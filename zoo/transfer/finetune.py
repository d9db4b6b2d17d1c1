"""A network and the data of a task in, a run folder out."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.data.datasets import say_unreadable
from zoo.errors import ZooError, warn
from zoo.spec import Preprocessing
from zoo.tasks.base import Prepared
from zoo.training.checks import check_before
from zoo.training.environment import forward_restored, threads_for
from zoo.training.interrupts import Stopped
from zoo.training.loop import Loop
from zoo.training.metrics import Record
from zoo.training.progress import Progress
from zoo.training.recipe import Recipe
from zoo.training.run import Run, early_stop
from zoo.training.schedule import make_schedule
from zoo.training.step import Step
from zoo.training.strategy import Strategy
from zoo.training.tensorboard import TensorBoardWriter, check_tensorboard
from zoo.transfer.batch_size import DEFAULT_BATCH, auto_batch_size
from zoo.transfer.budget import (
    Speed,
    agreed,
    cheaper,
    measure_speed,
    plan_within,
    smaller_batches,
)
from zoo.transfer.choose import choose_strategy
from zoo.transfer.conclude import conclude
from zoo.transfer.freeze import freeze_groups
from zoo.transfer.new_head import with_head
from zoo.transfer.param_groups import at_its_rate, recipe_optimizer
from zoo.transfer.probe_run import probe_network
from zoo.transfer.run_config import check_same, run_config, start_line
from zoo.transfer.training import Training

CHECK_SHARE = 1 / 20  # of the predicted run, for the checks before it


def train_network(model: nn.Module, asked: Training) -> Run:
    """Give `model` a head for the data's classes where its task has such, train it, or
    the layer groups that the recipe's strategy names, and write the run folder; or go
    on with a run that was stopped. Of several processes the first writes.
    """
    if asked.recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    began, chosen_here = time.perf_counter(), False
    if asked.strategy.kind == "auto":
        chosen_strategy, why = choose_strategy(model, asked)
        if why:
            warn(why)
            chosen_here = asked.accelerator.num_processes == 1
        asked = replace(asked, recipe=replace(asked.recipe, strategy=str(chosen_strategy)))
    if asked.strategy.kind.startswith("probe"):
        return probe_network(model, asked)
    task, recipe, accelerator = asked.task, asked.recipe, asked.accelerator
    if recipe.tensorboard:
        check_tensorboard()
    prepared = task.prepare(model, asked.split, recipe)
    batch_size = _batch_size(model, prepared, asked)
    loaders = partial(
        task.loaders,
        prepared.split,
        recipe,
        seed=asked.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    train, val = loaders(batch_size=batch_size * recipe.accumulation)
    model, classes, fitted = with_head(model, asked, val)
    if prepared.preprocessing and isinstance(getattr(model, "preprocessing", None), Preprocessing):
        model.preprocessing = prepared.preprocessing  # type: ignore[assignment]
    strategy = asked.strategy
    recipe = at_its_rate(recipe, asked.trained_before)
    step = task.step(prepared.split, asked.loss or asked.family_loss)
    counts = task.count(train), task.count(val)
    speed = None

    def measure(tried: Strategy, size: int) -> Speed:
        some = train if size == batch_size else loaders(batch_size=size * recipe.accumulation)[0]
        found = measure_speed(model, some, step, recipe, accelerator, tried.last)
        return agreed(found, accelerator)

    if recipe.minutes and not asked.resumed:
        plan = plan_within(
            60 * recipe.minutes - (time.perf_counter() - began),
            measure,
            counts,
            most=recipe.epochs,
            strategies=cheaper(strategy) if chosen_here else [strategy],
            batch_sizes=smaller_batches(batch_size)
            if recipe.batch_size == "auto"
            else [batch_size],
        )
        warn(plan.words(recipe.minutes, counts, recipe.epochs))
        if plan.speed is None:
            return probe_network(model, replace(asked, recipe=replace(recipe, strategy="probe")))
        if plan.batch_size != batch_size:
            batch_size = plan.batch_size
            train, val = loaders(batch_size=batch_size * recipe.accumulation)
        recipe, strategy, speed = replace(recipe, epochs=plan.epochs), plan.strategy, plan.speed
    if strategy.last:
        freeze_groups(model, last=strategy.last)
    if recipe.check and not asked.resumed:
        speed = speed or measure(strategy, batch_size)
        if accelerator.is_main_process:
            guess = len(classes) > 1 and not (fitted or asked.loss)
            chance = math.log(len(classes)) if guess else None
            _check(model, train, step, recipe, asked, chance, speed, counts)
    optimizer = recipe_optimizer(recipe, model)
    steps = len(train)
    schedule = make_schedule(
        recipe, optimizer, recipe.epochs * steps, steps, higher_is_better=task.higher_is_better
    )
    chosen = replace(
        recipe,
        batch_size=batch_size,
        strategy=str(strategy),
        lr=optimizer.defaults["lr"],
        weight_decay=optimizer.defaults.get("weight_decay"),
        mixed_precision=str(accelerator.mixed_precision),
        workers=getattr(train, "num_workers", recipe.workers),
        cache="on" if prepared.split.cached else "off",
    )
    config = run_config(model, asked, prepared, chosen, classes, counts)
    if asked.resumed:
        check_same(asked.resumed.run, config)
    folder = asked.folder(config)
    bar = Progress(
        recipe.epochs,
        counts[0],
        unit=task.unit,
        metrics=task.chart_metrics,
        show=asked.progress and accelerator.is_main_process,
    )
    with ExitStack() as stack:
        for context in (folder, bar, threads_for(model), forward_restored(model), _one_line()):
            stack.enter_context(context)
        after = len(asked.resumed.run.history) if asked.resumed else None
        writer = None
        if recipe.tensorboard and accelerator.is_main_process:
            writer = stack.enter_context(TensorBoardWriter(folder.path, after))
        if not asked.resumed:
            bar.say(start_line(asked, model, folder.config))

        unreadable: set[str] = set()

        def counted() -> Record:
            say_unreadable(prepared.split, unreadable)
            return {"unreadable": len(unreadable)} if unreadable else {}

        def after_epoch(record: Record, module: nn.Module) -> None:
            folder.epoch(record, module)
            if writer:
                writer.epoch(record)
            if asked.callback:
                asked.callback(record, module)

        def value(record: Record) -> float:
            # a loss of the user's own may measure nothing else
            other = -record["val_loss"] if task.higher_is_better else record["val_loss"]
            return record.get(f"val_{task.metric}", other)

        loop = Loop(
            model,
            train,
            val,
            optimizer,
            schedule,
            step=step,
            epochs=recipe.epochs,
            accelerator=accelerator,
            progress=bar,
            after_epoch=after_epoch,
            counted=counted,
            save=folder.save,
            stop=early_stop(folder.config, recipe.patience),
            unit=task.unit,
            value=value,
            limit=batch_size,
            clip=recipe.clip,
            clip_value=recipe.clip_value,
            ema=recipe.ema,
        )
        if accelerator.process_index:  # what is drawn in training, each process draws itself
            torch.manual_seed(asked.seed + accelerator.process_index)
        if asked.resumed and asked.resumed.state:
            loop.load_state_dict(asked.resumed.state)
            folder.rewind(loop.history, loop.trained, whole=not loop.averages.batches)
            bar.say(_going_on(folder.path, loop))
        try:
            history = loop.run()
        except Stopped as error:
            raise Stopped(
                f"stopped in epoch {loop.epoch}: `zoo finetune --resume "
                f"{shlex.quote(str(folder.path))}` goes on from there"
            ) from error
    run = Run(folder.path, folder.config, history, model)
    conclude(run, model, asked, prepared.preprocessing)
    folder.finish()
    return run


def _check(
    model: nn.Module,
    train: Any,
    step: Step,
    recipe: Recipe,
    asked: Training,
    chance_loss: float | None,
    speed: Speed,
    counts: tuple[int, int],
) -> None:
    """The course's checks before the long run; what they find is said."""
    found = check_before(
        model,
        train,
        step,
        chance_loss=chance_loss,
        make_optimizer=lambda copy: recipe_optimizer(recipe, copy),
        decay=recipe.weight_decay,
        seconds=CHECK_SHARE * recipe.epochs * speed.epoch(*counts),
        device=asked.accelerator.device,
    )
    for problem in found.problems:
        warn(problem)


def _going_on(path: Path, loop: Loop) -> str:
    batches = f", {loop.averages.batches} batches of it done" if loop.averages.batches else ""
    return f"{path} goes on in epoch {loop.epoch} of {loop.epochs}{batches}"


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


def _batch_size(model: nn.Module, prepared: Prepared, asked: Training) -> int:
    recipe = asked.recipe
    if not isinstance(recipe.batch_size, str):
        return recipe.batch_size
    if prepared.preprocessing is None:  # only of images it is known what a batch is
        return DEFAULT_BATCH
    return auto_batch_size(
        model,
        prepared.preprocessing.input_size,
        len(prepared.split.train),
        task=asked.task,
        loss=asked.family_loss,
        optimizer=recipe.optimizer,
        accelerator=asked.accelerator,
    )
