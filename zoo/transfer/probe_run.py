"""A probe as a run: its folder has the network with the fitted head, like any other."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import nn

from zoo.data.labels import first_batch
from zoo.errors import UsageError
from zoo.files import replaced, write
from zoo.training.metrics import Record
from zoo.training.progress import Progress
from zoo.training.run import Run
from zoo.transfer.conclude import conclude
from zoo.transfer.features import Features
from zoo.transfer.fitted import accuracy, logits_of
from zoo.transfer.head_options import HeadOptions
from zoo.transfer.probe import ProbeResult, StageProbes, fit_probe, probe_stages, split_features
from zoo.transfer.probe_module import Probe, with_fitted_head
from zoo.transfer.run_config import run_config, start_line
from zoo.transfer.training import Training

PROBES, DEPTH = "probes.json", "depth.png"
SAMPLE = 8  # images that the network with its new head is tried on


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
    began = time.perf_counter()
    every: StageProbes | None = None
    stages = tuple(recipe.stage.split("+"))
    shared: dict[str, Any] = {
        "mirrored": recipe.mirrored, "cache": asked.features, "progress": asked.progress,
    }  # fmt: skip
    if asked.strategy.kind == "probe-stages":
        every = probe_stages(model, split, task, recipe, head=head_options(asked), **shared)
        stages = every.best.stages
    train, val = split_features(model, split, task, recipe, stages, **shared)
    found = every.best if every else None
    if found is None:
        device = next(model.parameters()).device
        found = fit_probe(train, val, head_options(asked), device)
    prepared = task.prepare(model, split, replace(recipe, augment="none", cache="off"))
    _, loader = task.loaders(prepared.split, recipe, batch_size=SAMPLE, seed=asked.seed)
    images = first_batch(loader, range(min(SAMPLE, len(loader.dataset))))[0]
    module = with_fitted_head(
        model, stages, found.head.module, images, mirrored=recipe.mirrored, seed=asked.seed
    )
    classes = split.classes or tuple(map(str, range(int(train.y.max()) + 1)))
    chosen = replace(
        recipe, strategy=asked.strategy.kind, stage="+".join(stages), epochs=1, lr=None
    )
    counts = len(train), len(val)
    config = run_config(module, asked, prepared, chosen, classes, counts)
    if isinstance(module, Probe):
        config["head"] = module.to_config()
    folder = asked.folder(config)
    bar = Progress(1, counts[0], metrics=task.chart_metrics, show=asked.progress)
    with folder, bar:
        bar.say(start_line(asked, module, folder.config))
        record = _record(found, train, val, time.perf_counter() - began)
        folder.epoch(record, module)
        bar.say("\n".join(str(found if every is None else every).splitlines()))
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


def _record(found: ProbeResult, train: Features, val: Features, seconds: float) -> Record:
    record: Record = {
        "epoch": 1,
        "lr": 0.0,
        "images_per_second": (len(train) + len(val)) / seconds,
        "seconds": seconds,
    }
    head = found.head.module
    device = next((each.device for each in head.parameters()), train.x.device)
    for part, features in (("train", train), ("val", val)):
        x, y = features.x.to(device), features.y.to(device)
        record[f"{part}_loss"] = float(F.cross_entropy(logits_of(head, x), y))
        record[f"{part}_accuracy"] = accuracy(head, x, y)
    return record
