"""Networks as rows of a table: what they hold, how they are ordered and shown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from zoo.formatting import figure, mib, natural_key
from zoo.spec import Claims, Paper, Result

if TYPE_CHECKING:
    from zoo.count.module_table import Row as ModuleRow
    from zoo.count.profile import Profile

COLUMNS = {  # of all tables, in their order, with their titles
    "name": "name",
    "year": "year",
    "depth": "depth",
    "input": "input",
    "params": "parameters",
    "macs": "MACs",
    "flops": "FLOPs",
    "weights": "weights, MiB",
    "training": "training, MiB",
    "inference": "inference, MiB",
    "ms": "ms/image",
    "ms_min": "least",
    "accuracy": "accuracy of the weights",
    "licence": "licence of the weights",
    "reported": "reported by the paper",
}
SIZES = ("weights", "training", "inference")  # in bytes
LEFT = ("name", COLUMNS["reported"], COLUMNS["accuracy"], COLUMNS["licence"])
ACCURACY = " accuracy %"  # ends a metric
FLOAT_BYTES = 4  # a parameter in single precision


@dataclass(frozen=True)
class Layer:
    """One module of a network, or the first of several equal ones in a row: counts of
    one forward pass of one example, of all below it too. With several the counts are
    those of one.
    """

    path: str
    kind: str
    level: int  # 1 and more
    output: tuple[Any, ...]  # shape without the batch
    params: int
    macs: int
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network: counts of one forward pass of one example, and what its paper
    reports.

    `depth`: layers with weights as the paper counts them; of a module, convolutions and
    matrix products on the longest path.
    """

    name: str
    year: int | None = None  # of the paper; None for a module
    depth: int
    input: tuple[Any, ...]  # shape without the batch; a tuple of shapes for several inputs
    params: int
    macs: int
    flops: int  # 2 x macs
    weights: int  # bytes of the recorded file, else of the parameters in single precision
    results: tuple[Result, ...] = ()  # as the paper has them
    result: Result | None = None  # the one of them that is shown
    training: int | None = None  # bytes at the peak of a training step
    inference: int | None = None  # bytes at the peak of a forward pass
    ms: float | None = None  # measured milliseconds per example: the median
    ms_min: float | None = None  # and the minimum
    licence: str = ""  # of the published weights that the name takes
    published: tuple[Result, ...] = ()  # accuracies of these weights, as their publisher has them
    published_flops: int | None = None  # of one example of the size that these weights take
    layers: tuple[Layer, ...] = field(default=(), repr=False)
    paper: Paper | None = field(default=None, repr=False)
    note: str = ""  # what this network is, where the name does not say it
    doc: str = field(default="", repr=False)  # of its family: readings and departures
    picture: str = field(default="", repr=False)  # of its family, SVG

    @property
    def reported(self) -> str:
        return text(self.result) if self.result else ""

    @property
    def accuracy(self) -> str:
        """Of the published weights, on the first data that their publisher names."""
        if not self.published:
            return ""
        one = self.published[0]
        alike = [each for each in self.published if each.data == one.data]
        figures = ", ".join(f"{each.metric.removesuffix(ACCURACY)} {each.value}" for each in alike)
        return f"{figures} ({one.data}; {one.protocol})"


def from_claims(name: str, claims: Claims, depth: int, shapes: tuple[tuple[int, ...], ...]) -> Row:
    """The row of a network whose counts are known, for inputs of these shapes without
    the batch.
    """
    return Row(
        name=name,
        depth=depth,
        input=_one_or_several(shapes),
        params=claims.params,
        macs=claims.macs,
        flops=2 * claims.macs,
        weights=FLOAT_BYTES * claims.params,
    )


def from_profile(profile: Profile) -> Row:
    """The row of a network that was profiled with one example."""
    return Row(
        name=profile.name,
        depth=profile.depth,
        input=_one_or_several(tuple(shape[1:] for shape in profile.inputs)),
        params=profile.params,
        macs=profile.macs,
        flops=profile.flops,
        weights=FLOAT_BYTES * profile.params,
    )


def _one_or_several(shapes: tuple[tuple[int, ...], ...]) -> tuple[Any, ...]:
    return shapes[0] if len(shapes) == 1 else shapes


# ------------------------------------------------------------------------------ results


def text(result: Result) -> str:
    return f"{result.value} {result.metric} ({result.data}; {result.protocol})"


def first(results: Iterable[Result]) -> Result | None:
    """The first top-5 error, else the first result; None where there is none."""
    found = sorted(results, key=lambda result: not result.metric.startswith("top-5 error"))
    return found[0] if found else None


def reported(results: Iterable[Result]) -> str:
    """The first top-5 error, else the first result, with data and protocol; nothing
    where the paper reports none.
    """
    result = first(results)
    return text(result) if result else ""


def results(rows: Iterable[Row]) -> dict[str, tuple[Result, ...]]:
    """What is reported, by the network's name."""
    return {row.name: row.results for row in rows if row.results}


# -------------------------------------------------------------------------------- cells


def value(row: Row, column: str) -> Any:
    return getattr(row, column)


def cells(row: Row, columns: Iterable[str]) -> list[str]:
    """A row as text, a cell per column."""
    return [_cell(column, value(row, column)) for column in columns]


def _cell(column: str, shown: Any) -> str:
    if shown is None:
        return ""
    if column in SIZES:
        return mib(shown)
    if column in ("ms", "ms_min"):
        return f"{shown:,.2f}"
    return str(shown) if column == "year" else figure(shown)


def sort_key(row: Row, column: str) -> Any:
    """What a row is sorted by in a column; None where it has no value."""
    if column == "name":
        return natural_key(row.name)
    if column == "input":
        several = any(isinstance(side, tuple) for side in row.input)
        return sum(map(math.prod, row.input)) if several else math.prod(row.input)
    if column == "reported":
        shown = row.result
        return shown and (shown.metric, shown.data, shown.protocol, shown.value)
    if column == "accuracy":
        shown = next(iter(row.published), None)
        return shown and (shown.data, shown.protocol, shown.metric, shown.value)
    return value(row, column) or None if column == "licence" else value(row, column)


# ------------------------------------------------------------------------------- layers


def layers(profile: Profile, most: int = 100) -> tuple[Layer, ...]:
    """The modules of a network in tree order, as deep as there are at most `most` of
    them; equal ones in a row count as one.
    """
    used = [_layer(row) for row in profile.rows if row.level and (row.calls or row.params)]
    found: list[Layer] = []
    for depth in range(max((layer.level for layer in used), default=0), 0, -1):
        found = _merged([layer for layer in used if layer.level <= depth])
        if len(found) <= most:
            break
    return tuple(found)


def _layer(row: ModuleRow) -> Layer:
    several = bool(row.output) and isinstance(row.output[0], tuple)
    output = tuple(shape[1:] for shape in row.output) if several else row.output[1:]
    return Layer(row.path, row.kind, row.level, output=output, params=row.params, macs=row.macs)


def _merged(tree: list[Layer]) -> list[Layer]:
    """Modules in tree order, of which neighbours that are equal, with all below them,
    are one with its number.
    """
    branches: list[list[Layer]] = []
    for layer in tree:
        if layer.level == tree[0].level:
            branches.append([])
        branches[-1].append(layer)
    found = []
    for _, alike in groupby(branches, key=_shape):
        (top, *below), *others = alike
        found += [replace(top, times=1 + len(others)), *(_merged(below) if below else [])]
    return found


def _shape(branch: list[Layer]) -> list[tuple[Any, ...]]:
    """What two branches have in common that do the same."""
    top = len(branch[0].path)
    return [
        (layer.path[top:], layer.kind, layer.output, layer.params, layer.macs) for layer in branch
    ]
