"""The course's advice as a rule: little data, a head on top; much data, fine-tune.
Heads on other stages, its advice for very different data, are no better than one on top
as long as there are few to choose the stage by (docs/transfer.md).
"""

from __future__ import annotations

from torch import nn

from zoo.training.strategy import Strategy
from zoo.transfer.quick_probe import can_probe, quick_probe
from zoo.transfer.training import Training

FEW = 30  # images per class: up to here a head alone is fitted
MUCH = 300  # from here on everything is trained
SIMILAR = 0.98  # accuracy of a quick probe: above, there is little to gain
QUICK = 20  # images per class that the quick probe looks at


def choose_strategy(model: nn.Module, asked: Training) -> tuple[Strategy, str]:
    """By the number of images per class and the accuracy of a quick probe; with the
    reason, "" where there is no choice.
    """
    full = Strategy("full")
    if asked.resumed or not can_probe(asked):
        return full, ""
    if asked.accelerator.num_processes > 1:
        return full, "strategy full: of several processes none probes"
    targets = list(asked.split.train.targets)
    found = quick_probe(model, asked, QUICK)
    accuracy = found.cross_validated or found.accuracy
    return advised(len(targets) / len(set(targets)), accuracy)


def advised(per_class: float, accuracy: float) -> tuple[Strategy, str]:
    """The strategy for so many images per class, where a quick probe has this share of
    them right; with the reason.
    """
    found = f"{per_class:.0f} images per class, a quick probe has {accuracy:.1%} right"
    if accuracy >= SIMILAR:
        return Strategy("probe"), f"strategy probe: {found}, which training would hardly better"
    if per_class <= FEW:
        return Strategy("probe"), f"strategy probe: {found}: too few to train more"
    if per_class >= MUCH:
        return Strategy("full"), f"strategy full: {found}: enough to train everything"
    return Strategy("last", 2), f"strategy last:2: {found}: enough to train the last two groups"
