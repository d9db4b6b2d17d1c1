"""A probe as a run: its folder has the network with the fitted head, like any other."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from torch import nn

from zoo.errors import UsageError
from zoo.files import replaced, write
from zoo.training.metrics import Record
from zoo.training.progress import Progress
from zoo.training.run import Run
from zoo.training.tensorboard import TensorBoardWriter, check_tensorboard
from zoo.transfer.conclude import conclude
from zoo.transfer.head_options import HeadOptions
from zoo.transfer.probe import plain, probe, probe_stages, with_probe
from zoo.transfer.probe_module import Probe
from zoo.transfer.run_config import run_config, start_line
from zoo.transfer.training import Training

PROBES, DEPTH = "probes.json", "depth.png"


def probe_network(model: nn.Module, asked: Training) -> Run:
    """Fit a head on the frozen network, and write the run folder: one record, without
    epochs. With the strategy probe-stages a head on each stage, of which the one that
    is best by cross-validation stays.

    Raises UsageError for data that are no images with classes.
    """
    recipe, task, split = asked.recipe, asked.task, asked.split
    if asked.accelerator.num_processes > 1:
        raise UsageError("a probe is fitted by one process: start it without a launcher")
    if asked.loss is not None:
        raise UsageError("a probe has a loss of its own: leave out loss, or take strategy=full")
    if recipe.tensorboard:
        check_tensorboard()
    began = time.perf_counter()
    head, every = head_options(asked), None
    shared: dict[str, Any] = {
        "head": head, "mirrored": recipe.mirrored, "cache": asked.features,
        "progress": asked.progress,
    }  # fmt: skip
    if asked.strategy.kind == "probe-stages":
        every = probe_stages(model, split, task, recipe, **shared)
        found = every.best
    else:
        found = probe(model, split, task, recipe, stages=recipe.stage.split("+"), **shared)
    prepared = task.prepare(model, split, plain(recipe))
    found = with_probe(model, prepared.split, task, recipe, found, mirrored=recipe.mirrored)
    module = found.module
    assert module is not None
    classes = split.classes or tuple(map(str, range(found.num_classes)))
    chosen = replace(
        recipe, strategy=asked.strategy.kind, stage="+".join(found.stages), epochs=1, lr=None
    )
    counts = found.train_images, found.val_images
    config = run_config(module, asked, prepared, chosen, classes, counts)
    if isinstance(module, Probe):
        config["head"] = module.to_config()
    folder = asked.folder(config)
    bar = Progress(1, counts[0], metrics=task.chart_metrics, show=asked.progress)
    with folder, bar:
        bar.say(start_line(asked, module, folder.config))
        seconds = time.perf_counter() - began
        speed = sum(counts) / seconds
        record: Record = {
            "epoch": 1, "lr": 0.0, "images_per_second": speed, "seconds": seconds,
            **found.measured,
        }  # fmt: skip
        folder.epoch(record, module)
        if recipe.tensorboard:
            with TensorBoardWriter(folder.path) as writer:
                writer.epoch(record)
        bar.say(str(every or found))
        write(folder.path / PROBES, json.dumps((every or found).to_dict(), indent=2))
        if every:
            with replaced(folder.path / DEPTH) as temporary:
                every.plot(temporary)
        if asked.callback:
            asked.callback(record, module)
    run = Run(folder.path, folder.config, [record], module)
    conclude(run, module, asked, prepared.preprocessing)
    return run


def head_options(asked: Training) -> HeadOptions:
    """The head that a recipe names."""
    recipe = asked.recipe
    try:
        hidden = tuple(int(size) for size in recipe.hidden.split(","))
    except ValueError as error:
        raise UsageError(f"hidden={recipe.hidden!r}: needs sizes such as 512 or 512,256") from error
    return HeadOptions(
        kind=recipe.head,
        penalty=recipe.penalty,
        loss="squared_hinge" if recipe.squared_hinge else "hinge",
        margin=recipe.margin,
        distances=(recipe.distance,),
        hidden=hidden,
        seed=asked.seed,
    )
