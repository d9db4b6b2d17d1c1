"""A linear head fitted on the features of some training images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from zoo.training.environment import seeded
from zoo.transfer.head_options import HeadOptions
from zoo.transfer.probe import ProbeResult, fit_probe, part_features, plain
from zoo.transfer.stages import PRE_LOGITS
from zoo.transfer.training import Training


def can_probe(asked: Training) -> bool:
    """Whether there is what a probe needs: trained weights, images with classes whose
    numbers are known, and no loss of the user's own.
    """
    targets = getattr(asked.split.train, "targets", None)
    known = asked.loss is None and asked.split.size and targets is not None and len(targets)
    return bool(known and asked.trained_before and asked.task.name == "classify")


def quick_probe(model: nn.Module, asked: Training, per_class: int) -> ProbeResult:
    """A linear head on the first images of each class, at most `per_class`."""
    split, train = asked.split, asked.split.train
    by_class: dict[int, list[int]] = {}
    for index, target in enumerate(train.targets):
        by_class.setdefault(int(target), []).append(index)
    chosen = sorted(index for each in by_class.values() for index in each[:per_class])
    held = type(train)(
        [train.images[index] for index in chosen], [train.targets[index] for index in chosen]
    )
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    with seeded(asked.seed):  # what is drawn depends on which features are stored
        task = type(asked.task)()  # that of the run is prepared for training
        prepared = task.prepare(model, replace(split, train=held), plain(asked.recipe)).split
        options: Any = {"cache": asked.features, "progress": asked.progress}
        features = part_features(
            model, prepared, "train", task, asked.recipe, PRE_LOGITS, **options
        )
        return fit_probe(features, features, HeadOptions(seed=asked.seed), device)
