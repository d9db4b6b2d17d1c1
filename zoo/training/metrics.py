"""Means with their counts, added up over batches; and how a metric is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor

Record = dict[str, float]  # the numbers of one epoch, by name
PARTS = {"train": "training", "val": "validation"}  # of the data: in records, and in words


class Mean(NamedTuple):
    """A mean, and the number of things (images, tokens) that it is taken over."""

    value: Tensor
    count: int | Tensor  # type: ignore[assignment]  # shadows tuple.count


class MetricAverager:
    """Running means of the loss and the metrics of batches, each over its own count;
    kept on the device until read. A bare tensor counts the batch's size.
    """

    def __init__(self, where: str = "", advice: str = "") -> None:
        """`where` and `advice` end the message on a loss that is no number."""
        self.where = where
        self.advice = advice
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, Any] = {}

    def add(self, batch: Any, values: Mapping[str, Tensor | Mean]) -> None:
        from accelerate.utils import find_batch_size

        for name, found in values.items():
            value, count = found if isinstance(found, tuple) else (found, find_batch_size(batch))
            self.sums[name] = self.sums.get(name, 0) + value.detach() * count
            self.counts[name] = self.counts.get(name, 0) + count

    @property
    def count(self) -> int:
        """What the loss was taken over so far."""
        return int(self.counts["loss"])

    def read(self) -> Record:
        """Raises ZooError when the loss is no longer a number."""
        means = {name: float(value) / float(self.counts[name]) for name, value in self.sums.items()}
        if not math.isfinite(means["loss"]):
            raise ZooError(f"the loss became {means['loss']} {self.where}{self.advice}".rstrip())
        return means


@dataclass(frozen=True)
class ChartMetric:
    """How a metric is shown, in the curves and while a network trains."""

    name: str
    label: str = ""  # of the curve's axis; "": the name
    percent: bool = False  # a share, shown from 0 to 100
    chance: bool = False  # a share of right answers: guessing one of the classes has one, too

    @property
    def axis(self) -> str:
        return self.label or self.name

    @property
    def scale(self) -> float:
        return 100.0 if self.percent else 1.0

    def text(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self.percent else f"{value:.4f}"
