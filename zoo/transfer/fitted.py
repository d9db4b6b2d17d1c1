"""A head fitted on features, and the sweep that chose how strongly it is held back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 4096  # rows that a head takes at once


@dataclass(frozen=True)
class Trial:
    """One setting of a sweep, by cross-validation on the training features: `accuracy`
    of the rows left out, from 0 to 1, and the mean of their cross-entropy.
    """

    values: Mapping[str, Any]
    accuracy: float
    loss: float


@dataclass(frozen=True)
class FittedHead:
    """`module` gives logits (N, classes) of features (N, D); `values` is the setting
    that the `trials` chose, of which there are none where only one was given.
    """

    module: nn.Module
    values: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The highest accuracy; ties: the lowest loss, then the first."""
    return max(trials, key=lambda trial: (trial.accuracy, -trial.loss))


@torch.no_grad()
def logits_of(head: nn.Module, x: Tensor) -> Tensor:
    """In evaluation mode, in blocks of rows."""
    head.eval()
    return torch.cat([head(block) for block in torch.split(x, BLOCK)])


def accuracy(head: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of rows, from 0 to 1, whose highest logit is the right class."""
    return float((logits_of(head, x).argmax(1) == y).float().mean())


def standardisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column; 1 where it is constant."""
    mean, std = x.mean(0), x.std(0, correction=0)
    return mean, torch.where(std > 1e-6 * std.max().clamp_min(1e-30), std, 1.0)


@torch.no_grad()
def fold_standardisation(layer: nn.Linear, mean: Tensor, std: Tensor) -> None:
    """Make a layer that was fitted on standardised rows take them as they are."""
    layer.weight.div_(std)
    layer.bias.sub_(layer.weight @ mean)


def deepest_good(shares: Sequence[float], images: int) -> int:
    """The last of the accuracies on so many images that is within a standard error of
    the highest: the rule of Breiman et al., "Classification and Regression Trees"
    (1984), section 3.4.3, with depth in place of size.
    """
    highest = max(shares)
    error = math.sqrt(highest * (1 - highest) / images)
    return max(place for place, share in enumerate(shares) if share >= highest - error)
