"""What config.json says of a run, and the run's first line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.data.datasets import DataSplit
from zoo.errors import UsageError
from zoo.formatting import short
from zoo.tasks.base import Prepared
from zoo.training.environment import thread_count
from zoo.training.recipe import Recipe
from zoo.training.run import Run

if TYPE_CHECKING:
    from zoo.transfer.training import Training


def run_stem(name: str, split: DataSplit) -> str:
    """The name of a run's folder, but for its number."""
    return re.sub(r"[^\w.-]+", "_", f"{name}-{split.name}")


def run_config(
    model: nn.Module,
    asked: Training,
    prepared: Prepared,
    recipe: Recipe,
    classes: Sequence[str],
    counts: tuple[int, int],
) -> dict[str, Any]:
    """`recipe` with all that was decided, `counts` of training and validation."""
    task, split, accelerator = asked.task, asked.split, asked.accelerator
    preprocessing = prepared.preprocessing
    return {
        **asked.identity,
        "torch_version": str(torch.__version__),
        "task": task.name,
        "use": task.use,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "preprocessing": preprocessing.to_dict() if preprocessing else None,
        "module": type(model).__name__,
        "num_classes": len(classes),
        "classes": list(classes or split.classes),
        "data": {
            **split.record(),
            "skipped": prepared.split.skipped,
            f"train_{task.unit}": counts[0],
            f"val_{task.unit}": counts[1],
            **({f"test_{task.unit}": len(split.test)} if split.test else {}),
        },
        "recipe": recipe.to_dict(),
        "seed": asked.seed,
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": thread_count(model),
    }


def check_same(run: Run, config: Mapping[str, Any]) -> None:
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


def start_line(asked: Training, model: nn.Module, config: Mapping[str, Any]) -> str:
    """What is trained, from which weights, on what, and how."""
    weights, data, recipe = config["initial_weights"], config["data"], config["recipe"]
    unit = asked.task.unit
    classes = f" of {config['num_classes']:,} classes" if config["num_classes"] else ""
    parameters = list(model.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    count = short(sum(each.numel() for each in parameters))
    last = recipe["strategy"].startswith("last")
    part = f", {short(trained)} of them trained" if last else ""
    how = f"a {recipe['head']} head on {recipe['stage']}"
    if not recipe["strategy"].startswith("probe"):
        epochs = f"{recipe['epochs']} epoch{'s' if recipe['epochs'] > 1 else ''}"
        how = f"{epochs}, {recipe['optimizer']} {recipe['lr']:g}"
    return (
        f"{asked.name} ({count} parameters{part}) from "
        f"{'random weights' if weights == 'random' else weights}; {data[f'train_{unit}']:,} {unit}"
        f"{classes}, {data[f'val_{unit}']:,} for validation; {how}, {config['device']}"
    )
