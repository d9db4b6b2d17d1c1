"""The course's advice as a rule: little data, a head on top; different data, heads on
other stages; much data, fine-tune.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from zoo.training.strategy import Strategy
from zoo.transfer.head_options import HeadOptions
from zoo.transfer.probe import fit_probe, split_features
from zoo.transfer.stages import PRE_LOGITS
from zoo.transfer.training import Training

FEW = 30  # images per class: up to here a head alone is fitted
MUCH = 300  # from here on everything is trained
SIMILAR = 0.95  # accuracy of a quick probe: above, there is little to gain
QUICK = 20  # images per class that the quick probe looks at


def choose_strategy(model: nn.Module, asked: Training) -> tuple[Strategy, str]:
    """By the number of images per class and the accuracy of a quick probe; with the
    reason, "" where there is no choice.
    """
    full = Strategy("full")
    split = asked.split
    targets = list(getattr(split.train, "targets", None) or ())
    simple = asked.loss is None and targets and split.size
    if not asked.trained_before or not simple or asked.resumed or asked.task.name != "classify":
        return full, ""
    if asked.accelerator.num_processes > 1:
        return full, "strategy full: of several processes none probes"
    per_class = len(targets) / max(len(set(targets)), 1)
    accuracy = _quick_probe(model, asked)
    found = f"{per_class:.0f} images per class, a quick probe has {accuracy:.1%} right"
    if accuracy >= SIMILAR:
        return Strategy("probe"), f"strategy probe: {found}, which training would hardly better"
    if per_class <= FEW:
        return Strategy("probe-stages"), f"strategy probe-stages: {found}: too few to train more"
    if per_class >= MUCH:
        return full, f"strategy full: {found}: enough to train everything"
    return Strategy("last", 2), f"strategy last:2: {found}: enough to train the last two groups"


def _quick_probe(model: nn.Module, asked: Training) -> float:
    """Accuracy by cross-validation of a linear head on some training images."""
    split, few = asked.split, asked.split.train
    by_class: dict[int, list[int]] = {}
    for index, target in enumerate(few.targets):
        by_class.setdefault(target, []).append(index)
    chosen = sorted(index for each in by_class.values() for index in each[:QUICK])
    held = type(few)(
        [few.images[index] for index in chosen], [few.targets[index] for index in chosen]
    )
    train, _ = split_features(
        model,
        replace(split, train=held, val=held),
        asked.task,
        asked.recipe,
        PRE_LOGITS,
        cache=asked.features,
        progress=asked.progress,
    )
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    found = fit_probe(train, train, HeadOptions(seed=asked.seed), device)
    return found.cross_validated or found.accuracy
