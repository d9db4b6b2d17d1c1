"""Means with their counts, added up over batches; and how a metric is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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

    def __init__(self, where: str = "", advice: Callable[[int], str] = lambda batch: "") -> None:
        """`where` and `advice(batch)`, with the batch's number, end the message on a
        loss that is no number.
        """
        self.where = where
        self.advice = advice
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, Any] = {}
        self.batches = 0
        self.unread: list[tuple[int, Tensor]] = []  # losses that nobody has looked at

    def add(self, batch: Any, values: Mapping[str, Tensor | Mean]) -> None:
        from accelerate.utils import find_batch_size

        for name, found in values.items():
            value, count = found if isinstance(found, tuple) else (found, find_batch_size(batch))
            value = value.detach()
            self.sums[name] = self.sums.get(name, 0) + value * count
            self.counts[name] = self.counts.get(name, 0) + count
            if name == "loss":
                self.unread.append((self.batches, value))

    def end_batch(self) -> None:
        """What is added from here on is of the next batch."""
        self.batches += 1

    @property
    def count(self) -> int:
        """What the loss was taken over so far."""
        return int(self.counts.get("loss", 0))

    def check(self) -> None:
        """Raises ZooError when a loss was no number."""
        unread, self.unread = self.unread, []
        for batch, value in unread:
            if not math.isfinite(value):
                told = f"the loss became {float(value)} {self.where}{self.advice(batch)}"
                raise ZooError(told.rstrip())

    def read(self) -> Record:
        """The means. Raises ZooError when the loss is no longer a number."""
        self.check()
        return {name: float(value) / float(self.counts[name]) for name, value in self.sums.items()}

    def gather(self) -> None:
        """Take in what the other processes have. All of them call it."""
        from accelerate.utils import gather_object

        self.check()
        found = gather_object([self.state_dict()])
        self.sums = {}
        self.counts = {}
        for each in found:
            for name, (value, count) in each["means"].items():
                self.sums[name] = self.sums.get(name, 0) + value
                self.counts[name] = self.counts.get(name, 0) + count

    def state_dict(self) -> dict[str, Any]:
        """As numbers of Python."""
        means = {
            name: (float(value), float(self.counts[name])) for name, value in self.sums.items()
        }
        return {"batches": self.batches, "means": means}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.batches = state["batches"]
        self.sums = {name: value for name, (value, _) in state["means"].items()}
        self.counts = {name: count for name, (_, count) in state["means"].items()}


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
