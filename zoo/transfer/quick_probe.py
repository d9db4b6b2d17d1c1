"""A linear head fitted on the features of some training images: what the choice of a
strategy looks at, and what training begins with.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from zoo.errors import warn
from zoo.training.environment import seeded
from zoo.transfer.head_options import HeadOptions
from zoo.transfer.probe import ProbeResult, fit_probe, plain, split_features, with_probe
from zoo.transfer.stages import PRE_LOGITS
from zoo.transfer.training import Training

MOST = 10_000  # images that the first head is fitted on


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
        features, _ = split_features(
            model,
            replace(split, train=held, val=held),
            type(asked.task)(),  # that of the run is prepared for training
            asked.recipe,
            PRE_LOGITS,
            cache=asked.features,
            progress=asked.progress,
        )
        return fit_probe(features, features, HeadOptions(seed=asked.seed), device)


def fit_first_head(model: nn.Module, asked: Training) -> bool:
    """Give the network a linear head that is fitted while the rest is frozen: gradients
    of a random one would spoil what is trained already (Kumar et al., "Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution", 2022, section 3).
    False where its own last layer cannot take that head; then that one is as new.
    """
    classes = len(asked.split.classes)
    found = quick_probe(model, asked, max(1, MOST // classes))
    task = type(asked.task)()
    prepared = task.prepare(model, asked.split, plain(asked.recipe)).split
    if with_probe(model, prepared, task, asked.recipe, found).module is not model:
        model.requires_grad_(True)  # the probe around it had frozen it
        return False
    share = found.cross_validated or found.accuracy
    warn(f"the new head is fitted first, the rest frozen: {share:.1%} by cross-validation")
    return True
