"""Accuracies with their confidence intervals, as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from zoo.formatting import Printable, Section, Table

Z95 = 1.959963984540054  # the normal distribution has 95 % of its mass within so many sigmas


@dataclass(frozen=True, repr=False)
class Evaluation(Printable):
    """What a network has right of labelled images; accuracies in per cent. `right5` is
    None with five outputs or fewer, of which five are never wrong.
    """

    network: str
    data: str
    images: int
    right: int
    right5: int | None
    protocol: str  # in words
    skipped: tuple[str, ...] = ()  # files that cannot be read, with the reason

    @property
    def top1(self) -> float:
        return 100 * self.right / self.images

    @property
    def top5(self) -> float | None:
        return None if self.right5 is None else 100 * self.right5 / self.images

    def sections(self) -> list[Section]:
        facts = {"network": self.network, "data": self.data, "images": f"{self.images:,}"}
        facts["protocol"] = self.protocol
        rows = [
            [title, *_cells(right, self.images)]
            for title, right in (("top-1", self.right), ("top-5", self.right5))
            if right is not None
        ]
        headers = ["accuracy", "%", "95 % interval", "right"]
        return [Table(headers, rows, left=("accuracy",)), facts]

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "network": self.network,
            "data": self.data,
            "images": self.images,
            "protocol": self.protocol,
            "skipped": list(self.skipped),
        }
        for name, right in (("top1", self.right), ("top5", self.right5)):
            if right is not None:
                interval = wilson(right, self.images)
                accuracy = 100 * right / self.images
                found[name] = {"accuracy": accuracy, "right": right, "interval95": interval}
        return found


@dataclass(frozen=True, repr=False)
class Evaluations(Printable):
    """What several networks have right of the same images, and what their average
    has.
    """

    rows: tuple[Evaluation, ...]
    average: Evaluation

    def sections(self) -> list[Section]:
        top5 = self.average.top5 is not None
        lines = [
            [each.network, *_cells(each.right, each.images), f"{each.top5:.2f}" if top5 else ""]
            for each in (*self.rows, self.average)
        ]
        headers = ["network", "top-1 %", "95 % interval", "right", "top-5 %"]
        if not top5:
            headers, lines = headers[:-1], [line[:-1] for line in lines]
        facts = {"data": self.average.data, "images": f"{self.average.images:,}"}
        facts["protocol"] = self.average.protocol
        return [Table(headers, lines, left=("network",)), facts]

    def to_dict(self) -> dict[str, Any]:
        return {
            "networks": [each.to_dict() for each in self.rows],
            "average": self.average.to_dict(),
        }


def _cells(right: int, images: int) -> list[str]:
    """The share in per cent, its interval, and the number."""
    low, high = wilson(right, images)
    return [f"{100 * right / images:.2f}", f"{low:.2f} to {high:.2f}", f"{right:,}"]


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, in per cent, after E. B. Wilson (1927):
    what chance alone leaves open with `count` images drawn at random.
    """
    share, square = right / count, Z95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    spread = share * (1 - share) / count + square / (4 * count**2)
    half = Z95 / (1 + square / count) * math.sqrt(spread)
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)
