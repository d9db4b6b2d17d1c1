"""Many networks side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from zoo.count.report import Profile
from zoo.spec import Result
from zoo.tables.text import figure, markdown, plain


@dataclass(frozen=True)
class Row:
    """One network: counts of one forward pass of one example, and what its paper reports."""

    name: str
    year: int | None  # of the paper; None for a module of your own
    depth: int  # convolutions and matrix products on the longest path
    input: tuple[Any, ...]  # shape without the batch; a tuple of shapes for several inputs
    params: int
    macs: int
    flops: int  # 2 x macs
    reported: str  # by its paper


HEADERS = {
    "name": "name",
    "year": "year",
    "depth": "depth",
    "input": "input",
    "params": "parameters",
    "macs": "MACs",
    "flops": "FLOPs",
    "reported": "reported by the paper",
}
LEFT = ("name", "reported by the paper")


def row(profile: Profile, year: int | None = None, results: Iterable[Result] = ()) -> Row:
    """The row of a network that was profiled with one example; `results` in the order of its paper."""
    shapes = tuple(shape[1:] for shape in profile.inputs)
    size = shapes[0] if len(shapes) == 1 else shapes
    return Row(profile.name, year, profile.depth, size, profile.params, profile.macs, profile.flops, reported(results))


def reported(results: Iterable[Result]) -> str:
    """The first top-5 error, else the first result, with data and protocol; nothing where the paper reports none."""
    result = next(iter(sorted(results, key=lambda result: not result.metric.startswith("top-5 error"))), None)
    return f"{result.value} {result.metric} ({result.data}; {result.protocol})" if result else ""


@dataclass(frozen=True)
class Comparison:
    """A table of networks; `print` shows it as plain text."""

    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def cells(self) -> list[list[str]]:
        """The rows as text, a cell per entry of HEADERS."""
        return [[figure(value) if column != "year" else str(value or "") for column, value in asdict(each).items()] for each in self.rows]

    def to_markdown(self) -> str:
        return markdown(list(HEADERS.values()), self.cells(), LEFT)

    def to_csv(self) -> str:
        """Comma-separated values with the field names as header; numbers without separators."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(HEADERS)
        writer.writerows([figure(value) if isinstance(value, tuple) else value for value in asdict(each).values()] for each in self.rows)
        return out.getvalue()

    def __str__(self) -> str:
        return plain(list(HEADERS.values()), self.cells(), LEFT)
