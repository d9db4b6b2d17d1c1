"""Many networks side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import check_choice
from zoo.spec import Claims, Result
from zoo.tables.protocols import choose, protocol
from zoo.tables.text import figure, markdown, mib, plain, separated

if TYPE_CHECKING:
    from zoo.count.report import Profile
    from zoo.count.report import Row as ProfileRow

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
    "reported": "reported by the paper",
}
SIZES = ("weights", "training", "inference")  # in bytes
LEFT = ("name", COLUMNS["reported"])


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


@dataclass(frozen=True)
class Row:
    """One network: counts of one forward pass of one example, and what its paper
    reports.
    """

    name: str
    year: int | None  # of the paper; None for a module of your own
    depth: int  # layers with weights as the paper counts them; of a module, convolutions and matrix products on the longest path
    input: tuple[Any, ...]  # shape without the batch; a tuple of shapes for several inputs
    params: int
    macs: int
    flops: int  # 2 x macs
    weights: int  # bytes of the recorded weights file, else of the parameters in single precision
    results: tuple[Result, ...] = ()  # as the paper has them
    result: Result | None = None  # the one of them that is shown
    training: int | None = None  # bytes at the peak of a training step
    inference: int | None = None  # bytes at the peak of a forward pass
    ms: float | None = None  # measured milliseconds per example
    layers: tuple[Layer, ...] = field(default=(), repr=False)

    @property
    def reported(self) -> str:
        return text(self.result) if self.result else ""


def from_claims(name: str, claims: Claims, depth: int, size: tuple[int, ...]) -> Row:
    """The row of a network whose counts are known, at its own input size."""
    return Row(
        name,
        None,
        depth,
        tuple(size),
        claims.params,
        claims.macs,
        2 * claims.macs,
        4 * claims.params,
    )


def from_profile(profile: Profile) -> Row:
    """The row of a network that was profiled with one example."""
    shapes = tuple(shape[1:] for shape in profile.inputs)
    size = shapes[0] if len(shapes) == 1 else shapes
    return Row(
        profile.name,
        None,
        profile.depth,
        size,
        profile.params,
        profile.macs,
        profile.flops,
        4 * profile.params,
    )


def text(result: Result) -> str:
    return f"{result.value} {result.metric} ({result.data}; {result.protocol})"


def first(results: Iterable[Result]) -> Result | None:
    """The first top-5 error, else the first result; None where there is none."""
    return next(
        iter(sorted(results, key=lambda result: not result.metric.startswith("top-5 error"))), None
    )


def reported(results: Iterable[Result]) -> str:
    """The first top-5 error, else the first result, with data and protocol; nothing
    where the paper reports none.
    """
    result = first(results)
    return text(result) if result else ""


def results(rows: Iterable[Row]) -> dict[str, tuple[Result, ...]]:
    """What is reported, by the network's name."""
    return {row.name: row.results for row in rows if row.results}


@dataclass(frozen=True)
class Comparison:
    """A table of networks; `print` shows it as plain text.

    `titles`: of the columns that it has, by their names, which are also those of the
    fields of its rows.
    """

    rows: tuple[Row, ...]
    titles: Mapping[str, str]

    def sort(self, column: str, descending: bool = False) -> Comparison:
        """The rows in the order of a column, names in natural order, inputs by their
        number of values, reported results of a protocol together; rows without a value
        come last. Raises UsageError for a column that the table does not have.
        """
        check_choice("the table", "sort", column, self.titles)
        known = [row for row in self.rows if sort_key(row, column) is not None]
        missing = [row for row in self.rows if sort_key(row, column) is None]
        return replace(
            self,
            rows=(
                *sorted(known, key=lambda row: sort_key(row, column), reverse=descending),
                *missing,
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """The columns of each row as numbers, and all results that its paper
        reports.
        """
        rows = []
        for row in self.rows:
            record = {column: _value(row, column) for column in self.titles} | {
                "results": [asdict(result) for result in row.results]
            }
            rows.append(
                record | ({"layers": [asdict(layer) for layer in row.layers]} if row.layers else {})
            )
        return {"titles": dict(self.titles), "rows": rows}

    def cells(self) -> list[list[str]]:
        """The rows as text, a cell per column."""
        return [[cell(column, _value(row, column)) for column in self.titles] for row in self.rows]

    def to_markdown(self) -> str:
        return markdown(list(self.titles.values()), self.cells(), LEFT)

    def to_csv(self) -> str:
        """Comma-separated values with the column names as header; numbers without
        separators, sizes in bytes.
        """
        return separated(
            self.titles, ([_value(row, column) for column in self.titles] for row in self.rows)
        )

    def plot(self, path: str | Path, kind: str = "operations", protocol: str = "") -> str:
        """Draw the reported accuracy to a .png or .svg file: per network ("accuracy"),
        or against the FLOPs, with the parameters as area and the year as colour
        ("operations"). Returns the caption.

        Only results of one protocol are drawn: of those whose text has the words
        `protocol` (such as "top-5 single crop") the one that most of the networks
        share. Raises UsageError where no network has any, or for another kind or file
        name.
        """
        from zoo.tables.picture import draw

        return draw(self.rows, Path(path), kind, protocol)

    def to_html(self, path: str | Path = "") -> str:
        """One page that needs nothing else: the table to sort and filter, the chart,
        and the layers where the rows have them.

        Written to `path` too when it is given.
        """
        from zoo.tables.file import write
        from zoo.tables.page import page

        html = page(self)
        if path:
            write(Path(path), html.encode())
        return html

    def __str__(self) -> str:
        return plain(list(self.titles.values()), self.cells(), LEFT)


def comparison(
    rows: Iterable[Row], titles: Mapping[str, str], protocol_words: str = ""
) -> Comparison:
    """The table of some rows with these columns. With `protocol_words` only results of
    that protocol are shown.

    Raises UsageError when no row has any.
    """
    rows = tuple(rows)
    if protocol_words:
        which, _ = choose(results(rows), protocol_words)
        shown = [
            next((result for result in row.results if protocol(result) == which), None)
            for row in rows
        ]
    else:
        shown = [first(row.results) for row in rows]
    return Comparison(
        tuple(replace(row, result=result) for row, result in zip(rows, shown, strict=True)), titles
    )


def cell(column: str, value: Any) -> str:
    """A value of the table as it is shown."""
    if value is None:
        return ""
    if column in SIZES:
        return mib(value)
    if column == "ms":
        return f"{value:,.2f}"
    return str(value) if column == "year" else figure(value)


def _value(row: Row, column: str) -> Any:
    return getattr(row, column)


def sort_key(row: Row, column: str) -> Any:
    """What a row is sorted by in a column; None where it has no value."""
    if column == "name":
        return [
            (int(part), "") if part.isdigit() else (-1, part)
            for part in re.split(r"(\d+)", row.name.lower())
        ]
    if column == "input":
        return (
            math.prod(row.input)
            if all(isinstance(side, int) for side in row.input)
            else sum(map(math.prod, row.input))
        )
    if column == "reported":
        return row.result and (
            row.result.metric,
            row.result.data,
            row.result.protocol,
            row.result.value,
        )
    return _value(row, column)


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


def _layer(row: ProfileRow) -> Layer:
    several = bool(row.output) and isinstance(row.output[0], tuple)
    output = tuple(shape[1:] for shape in row.output) if several else row.output[1:]
    return Layer(row.path, row.kind, row.level, output, row.params, row.macs)


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
