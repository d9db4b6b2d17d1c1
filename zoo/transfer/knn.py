"""Nearest neighbours: the classes of the k training rows that are nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.transfer.fitted import FittedHead, Trial, best_trial
from zoo.transfer.folds import held_out

DISTANCES = ("l2", "l1", "cosine")
KS = (1, 3, 5, 7, 10, 15, 20, 30, 50, 100)
BLOCK_ENTRIES = 2**24  # distances that are in memory at once
FLOOR = 1e-6  # of the share of votes, whose logarithm is the logit


class NearestNeighbours(nn.Module):
    """Rows (N, D) to logits (N, classes): the logarithm of the share of the `k` nearest
    training rows `x` that are of each class; ties: the smaller class number.
    """

    x: Tensor
    y: Tensor

    def __init__(self, x: Tensor, y: Tensor, classes: int, k: int, distance: str = "l2") -> None:
        super().__init__()
        check_choice("knn", "distance", distance, DISTANCES)
        if not 1 <= k <= len(x):
            raise InputError(f"knn: k={k}: expected 1 to {len(x)}, the number of training rows")
        self.classes, self.k, self.distance = classes, k, distance
        self.register_buffer("x", x)
        self.register_buffer("y", y)

    def forward(self, rows: Tensor) -> Tensor:
        nearest = self.y[nearest_rows(rows, self.x, self.k, self.distance)]
        return _logits(votes(nearest, self.classes)[:, -1], self.k)

    def extra_repr(self) -> str:
        return f"{len(self.x)} rows, k={self.k}, distance={self.distance!r}"


def nearest_rows(rows: Tensor, x: Tensor, k: int, distance: str) -> Tensor:
    """The numbers (N, k) of the k rows of `x` that are nearest to each row, the nearest
    first. Memory is bounded: the rows are taken in blocks.
    """
    if distance == "cosine":  # of vectors of length 1 the order is that of L2
        rows, x = F.normalize(rows, dim=1), F.normalize(x, dim=1)
    order = 1.0 if distance == "l1" else 2.0
    blocks = torch.split(rows, max(1, BLOCK_ENTRIES // len(x)))
    found = [torch.cdist(block, x, order).topk(k, 1, largest=False).indices for block in blocks]
    return torch.cat(found)


def votes(nearest: Tensor, classes: int) -> Tensor:
    """From the classes (N, k) of the nearest rows to how many of the first 1, 2, … k
    are of each class, (N, k, classes).
    """
    return F.one_hot(nearest, classes).cumsum(1)


def _logits(counts: Tensor, k: int) -> Tensor:
    return (counts / k + FLOOR).log()


def fit_knn(
    x: Tensor,
    y: Tensor,
    classes: int,
    parts: Tensor | None,
    *,
    ks: Sequence[int] = KS,
    distances: Sequence[str] = ("l2",),
) -> FittedHead:
    """The k, and of several distances the one, that cross-validation over the `parts`
    (N,) of the rows finds best; None: the first of each.

    Raises InputError for a k that the rows do not have.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"knn: k={min(ks, default='')}: needs one neighbour or more")
    for distance in distances:
        check_choice("knn", "distance", distance, DISTANCES)
    left_out = held_out(parts)
    if not left_out:
        head = NearestNeighbours(x, y, classes, ks[0], distances[0])
        return FittedHead(head, {"k": ks[0], "distance": distances[0]})
    fewest = min(int((~out).sum()) for out in left_out)
    tried = [k for k in ks if k <= fewest]
    if not tried:
        raise InputError(f"knn: k={min(ks)}: there are {fewest} training rows in a fold")
    trials: list[Trial] = []
    for distance in distances:
        right, loss = torch.zeros(len(tried)), torch.zeros(len(tried))
        for out in left_out:
            nearest = nearest_rows(x[out], x[~out], max(tried), distance)
            counts = votes(y[~out][nearest], classes)
            for place, k in enumerate(tried):
                logits = _logits(counts[:, k - 1], k)
                right[place] += (logits.argmax(1) == y[out]).sum().cpu()
                loss[place] += F.cross_entropy(logits, y[out], reduction="sum").cpu()
        trials += [
            Trial({"k": k, "distance": distance}, float(hits) / len(y), float(total) / len(y))
            for k, hits, total in zip(tried, right, loss, strict=True)
        ]
    best = best_trial(trials).values
    head = NearestNeighbours(x, y, classes, best["k"], best["distance"])
    return FittedHead(head, best, tuple(trials))
