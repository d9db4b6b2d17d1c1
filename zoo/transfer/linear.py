"""Linear heads: softmax regression, and the multi-class support vector machine that
sums over all wrong classes (J. Weston, C. Watkins, 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError, check_choice, warn
from zoo.transfer.fitted import (
    FittedHead,
    Trial,
    best_trial,
    fold_standardisation,
    standardisation,
)
from zoo.transfer.folds import held_out
from zoo.transfer.minimize import minimize

LOSSES = ("softmax", "hinge", "squared_hinge")
PENALTIES = ("l2", "l1", "elastic")
STRENGTHS = tuple(10 ** (0.5 - 5.5 * step / 19) for step in range(20))  # 3.2 to 1e-5
KINK = 0.05  # of the margin, over which the hinge is rounded off: gradients need that


def fit_linear(
    x: Tensor,
    y: Tensor,
    classes: int,
    parts: Tensor | None,
    *,
    loss: str = "softmax",
    penalty: str = "l2",
    l1_ratio: float = 0.5,
    margin: float = 1.0,
    strengths: Sequence[float] = STRENGTHS,
) -> FittedHead:
    """A linear layer for rows (N, D), with the strength of the penalty that cross-
    validation over the `parts` (N,) of the rows finds best; None: the first.

    The penalty is of the weights that standardised rows have: "l2", strength / 2 times
    the sum of their squares; "l1", strength times that of their absolute values;
    "elastic", both, the latter with the share `l1_ratio`. scikit-learn's C is 1 /
    (strength * N). From strong to weak, each fit begins where the one before it ended.
    """
    _check(loss, penalty, l1_ratio, margin, strengths)
    share = {"l2": 0.0, "l1": 1.0, "elastic": l1_ratio}[penalty]
    mean, std = standardisation(x)
    z, back = (x - mean) / std, None
    if share == 0 and len(x) < x.shape[1]:
        z, back = rotated(z)
    left_out = held_out(parts)
    rows = torch.stack([*(~out for out in left_out), torch.ones_like(y, dtype=torch.bool)])
    objective = Objective(z, y, rows.to(x.dtype), classes, loss, margin)
    flat = x.new_zeros(len(rows), (z.shape[1] + 1) * classes)
    fits, trials = {}, []
    for strength in sorted(strengths, reverse=True) if left_out else strengths[:1]:
        smooth = replace(objective, l2=strength * (1 - share))
        absolute = objective.of_weights(flat, strength * share) if share else None
        flat, converged = minimize(smooth, flat, l1=absolute)
        if not converged.all():
            warn(f"linear head: strength {strength:.2g} has not converged: a stronger one may")
        weights = flat.view(len(rows), -1, classes)
        fits[strength] = weights[-1]
        if left_out:
            trials.append(_trial(strength, z, y, left_out, weights))
    chosen = best_trial(trials).values["strength"] if trials else strengths[0]
    layer = nn.Linear(x.shape[1], classes, device=x.device, dtype=x.dtype).requires_grad_(False)
    inner = fits[chosen][:-1]  # (D, C), or as rotated
    layer.weight.copy_((inner if back is None else back @ inner).T)
    layer.bias.copy_(fits[chosen][-1])
    fold_standardisation(layer, mean, std)
    return FittedHead(layer.requires_grad_(), {"strength": chosen}, tuple(trials))


@dataclass(frozen=True)
class Objective:
    """The mean loss of rows `x` (N, D) of classes `y` (N,), plus `l2` / 2 times the
    squares of the weights; biases are free. Several problems differ in the weights
    (B, N) of the rows.

    `loss`: "softmax", cross-entropy; "hinge", the sum over the wrong classes of
    max(0, their score - the right one's + margin); "squared_hinge", of its squares.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    classes: int
    loss: str = "softmax"
    margin: float = 1.0
    l2: float = 0.0

    def __call__(self, which: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Values (b,) and gradients (b, (D + 1) * C) of the problems `which`, of each
        at its weights and, in the last row, biases.
        """
        weights = flat.view(len(flat), -1, self.classes)  # (b, D + 1, C)
        count, width = self.x.shape
        stacked = weights[:, :-1].permute(1, 0, 2).reshape(width, -1)  # (D, b * C)
        scores = (self.x @ stacked).view(count, -1, self.classes) + weights[:, -1]  # (N, b, C)
        values, slopes = self._losses(scores)  # (N, b), (N, b, C)
        share = (self.rows[which] / self.rows[which].sum(1, keepdim=True)).T  # (N, b)
        slopes *= share[..., None]
        inner = self.x.T @ slopes.view(count, -1)  # (D, b * C)
        gradient = torch.empty_like(weights)
        gradient[:, :-1] = inner.view(width, -1, self.classes).permute(1, 0, 2)
        gradient[:, :-1] += self.l2 * weights[:, :-1]
        gradient[:, -1] = slopes.sum(0)
        squares = weights[:, :-1].square().sum((1, 2))
        return (values * share).sum(0) + self.l2 / 2 * squares, gradient.view_as(flat)

    def of_weights(self, flat: Tensor, value: float) -> Tensor:
        """A penalty (B, (D + 1) * C) of this value for weights, of 0 for biases."""
        penalty = torch.full_like(flat, value)
        penalty.view(len(flat), -1, self.classes)[:, -1] = 0
        return penalty

    def _losses(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (N, b), and their gradients (N, b, C) with respect to the scores."""
        right = self.y[:, None, None].expand(-1, scores.shape[1], 1)
        own = scores.gather(2, right)
        if self.loss == "softmax":
            logs = scores.logsumexp(2, keepdim=True)
            slopes = (scores - logs).exp_()
            return (logs - own)[..., 0], slopes.scatter_add_(2, right, -torch.ones_like(own))
        over = (scores - own + self.margin).scatter_(2, right, 0.0).clamp_min_(0)
        if self.loss == "squared_hinge":
            values, slopes = over.square().sum(2), 2 * over
        else:
            kink = KINK * self.margin
            values = torch.where(over < kink, over.square() / (2 * kink), over - kink / 2).sum(2)
            slopes = (over / kink).clamp_max_(1)
        return values, slopes.scatter(2, right, -slopes.sum(2, keepdim=True))


def rotated(z: Tensor) -> tuple[Tensor, Tensor]:
    """Fewer rows (N, D) than columns, in the basis (D, R) of the space that they span:
    (N, R). Products of rows, and with L2 penalties the whole fit, stay the same.
    """
    squares, vectors = torch.linalg.eigh((z @ z.T).double())
    kept = squares > 1e-7 * squares[-1]
    lengths = squares[kept].sqrt()
    scaled = (vectors[:, kept] * lengths).to(z.dtype)
    return scaled, z.T @ (vectors[:, kept] / lengths).to(z.dtype)


def _trial(
    strength: float, z: Tensor, y: Tensor, left_out: Sequence[Tensor], weights: Tensor
) -> Trial:
    """How well each row is classified by the weights (b, D + 1, C) of the part that
    leaves it out.
    """
    logits = z.new_empty(len(y), weights.shape[2])
    for out, each in zip(left_out, weights, strict=False):
        logits[out] = z[out] @ each[:-1] + each[-1]
    right = float((logits.argmax(1) == y).float().mean())
    return Trial({"strength": strength}, right, float(F.cross_entropy(logits, y)))


def _check(
    loss: str, penalty: str, l1_ratio: float, margin: float, strengths: Sequence[float]
) -> None:
    check_choice("linear head", "loss", loss, LOSSES)
    check_choice("linear head", "penalty", penalty, PENALTIES)
    if not 0 <= l1_ratio <= 1:
        raise InputError(f"linear head: l1_ratio={l1_ratio}: needs a share from 0 to 1")
    if margin <= 0:
        raise InputError(f"linear head: margin={margin}: needs a number above 0")
    if not strengths or min(strengths) <= 0:
        raise InputError(f"linear head: strengths={list(strengths)}: needs numbers above 0")
