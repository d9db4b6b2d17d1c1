"""A head with hidden layers, trained on features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.optimizers import make_optimizer
from zoo.training.environment import seeded
from zoo.training.recipe import Recipe
from zoo.training.schedule import make_schedule
from zoo.transfer.fitted import (
    FittedHead,
    Trial,
    best_trial,
    fold_standardisation,
    standardisation,
)
from zoo.transfer.folds import held_out

STEPS, BATCH, LR = 300, 128, 1e-3
WEIGHT_DECAYS = (1.0, 0.1, 0.01)


def make_mlp(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers of these sizes, the first of the features and the last of the
    logits; ReLU and dropout behind each but the last.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


def fit_mlp(
    x: Tensor,
    y: Tensor,
    classes: int,
    parts: Tensor | None,
    *,
    hidden: Sequence[int] = (512,),
    dropout: float = 0.5,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    seed: int = 0,
) -> FittedHead:
    """Trained with AdamW on the standardised rows, with the weight decay that cross-
    validation over the `parts` (N,) finds best; None: the first. All decays and parts
    are trained at once, on the same batches. Depends on the seed alone.
    """
    if not hidden or min(hidden) < 1 or not 0 <= dropout < 1:
        raise InputError(
            f"mlp: hidden={tuple(hidden)}, dropout={dropout}: needs hidden sizes of 1 or more, and "
            "a dropout from 0 to below 1"
        )
    decays = list(weight_decays) if parts is not None else list(weight_decays[:1])
    if not decays or min(decays) < 0:
        raise InputError(f"mlp: weight decays {decays}: needs numbers from 0 on")
    mean, std = standardisation(x)
    z = (x - mean) / std
    left_out = held_out(parts)
    kept = torch.stack([*(~out for out in left_out), torch.ones_like(y, dtype=torch.bool)])
    rows = kept.to(x.dtype).repeat(len(decays), 1)  # (B, N), decay after decay
    with seeded(seed):
        heads = _Mlps((x.shape[1], *hidden, classes), len(rows), dropout).to(x.device, x.dtype)
        per_head = torch.tensor(decays, device=x.device, dtype=x.dtype)
        heads.fit(z, y, rows, per_head.repeat_interleave(len(kept)))
    trials = []
    for place, decay in enumerate(decays if left_out else ()):
        logits = x.new_empty(len(y), classes)
        for number, out in enumerate(left_out):
            logits[out] = heads.alone(place * len(kept) + number)(z[out])
        right = float((logits.argmax(1) == y).float().mean())
        trials.append(Trial({"weight_decay": decay}, right, float(F.cross_entropy(logits, y))))
    chosen = best_trial(trials).values["weight_decay"] if trials else decays[0]
    head = heads.alone((decays.index(chosen) + 1) * len(kept) - 1)
    fold_standardisation(head[0], mean, std)  # type: ignore[arg-type]
    return FittedHead(head.requires_grad_(), {"weight_decay": chosen}, tuple(trials))


class _Mlps(nn.Module):
    """B heads of the same shape and the same first weights."""

    def __init__(self, sizes: Sequence[int], count: int, dropout: float) -> None:
        super().__init__()
        self.sizes, self.dropout = sizes, dropout
        layers = [layer for layer in make_mlp(sizes, dropout) if isinstance(layer, nn.Linear)]
        self.weights = nn.ParameterList(
            [layer.weight.detach().T.repeat(count, 1, 1) for layer in layers]
        )
        self.biases = nn.ParameterList(
            [layer.bias.detach().repeat(count, 1, 1) for layer in layers]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, D) to logits (B, n, classes)."""
        rows = x.expand(len(self.biases[0]), -1, -1)
        last = len(self.weights) - 1
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = torch.baddbmm(bias, rows, weight)
            if place < last:
                rows = F.dropout(rows.relu(), self.dropout)
        return rows

    def fit(self, x: Tensor, y: Tensor, rows: Tensor, decays: Tensor) -> None:
        """`rows` (B, N): which rows each head learns from; `decays` (B,)."""
        optimizer = make_optimizer("adamw", list(self.parameters()), LR, 0.0)
        schedule = make_schedule(Recipe(schedule="cosine"), optimizer, STEPS, STEPS)
        order = torch.empty(0, dtype=torch.long)
        for _ in range(STEPS):
            if not len(order):
                order = torch.randperm(len(x))
            batch, order = order[:BATCH].to(x.device), order[BATCH:]
            used = rows[:, batch]
            logits = self(x[batch])
            losses = F.cross_entropy(
                logits.flatten(0, 1), y[batch].repeat(len(rows)), reduction="none"
            )
            optimizer.zero_grad()
            means = (losses.view_as(used) * used).sum(1) / used.sum(1).clamp_min(1)
            torch.autograd.backward(means.sum())
            with torch.no_grad():  # each head has its own, which no group of AdamW can have
                for weight in self.weights:
                    weight *= (1 - schedule.get_last_lr()[0] * decays)[:, None, None]
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def alone(self, place: int) -> nn.Sequential:
        """One of the heads."""
        head = make_mlp(self.sizes, self.dropout).to(self.biases[0]).eval().requires_grad_(False)
        layers = [layer for layer in head if isinstance(layer, nn.Linear)]
        for layer, weight, bias in zip(layers, self.weights, self.biases, strict=True):
            layer.weight.copy_(weight[place].T)
            layer.bias.copy_(bias[place, 0])
        return head
