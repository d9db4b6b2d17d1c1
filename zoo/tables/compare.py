"""Many networks side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zoo.errors import check_choice, warn
from zoo.files import write
from zoo.formatting import Printable, Table, markdown, separated, some_of
from zoo.tables.evaluation_protocols import choose, protocol
from zoo.tables.rows import LEFT, Row, cells, first, results, sort_key, value

FIRST_TO_GO = (
    "licence",
    "reported",
    "accuracy",
    "weights",
    "year",
    "input",
)  # columns, on a narrow terminal


@dataclass(frozen=True, repr=False)
class Comparison(Printable):
    """A table of networks.

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
        keys = {id(row): sort_key(row, column) for row in self.rows}
        known = [row for row in self.rows if keys[id(row)] is not None]
        known.sort(key=lambda row: keys[id(row)], reverse=descending)
        missing = [row for row in self.rows if keys[id(row)] is None]
        return replace(self, rows=(*known, *missing))

    def to_dict(self) -> dict[str, Any]:
        """The columns of each row as numbers, and all results that its paper
        reports.
        """
        rows = []
        for row in self.rows:
            record = {column: value(row, column) for column in self.titles}
            record["results"] = [asdict(result) for result in row.results]
            if row.layers:
                record["layers"] = [asdict(layer) for layer in row.layers]
            rows.append(record)
        return {"titles": dict(self.titles), "rows": rows}

    def cells(self) -> list[list[str]]:
        """The rows as text, a cell per column."""
        return [cells(row, self.titles) for row in self.rows]

    def to_markdown(self) -> str:
        return markdown(list(self.titles.values()), self.cells(), LEFT)

    def to_csv(self) -> str:
        """Comma-separated values with the column names as header; numbers without
        separators, sizes in bytes.
        """
        records = ([value(row, column) for column in self.titles] for row in self.rows)
        return separated(self.titles, records)

    def plot(self, path: str | Path, kind: str = "operations", protocol: str = "") -> str:
        """Draw the networks to a .png or .svg file, with the year as colour: the
        reported accuracy against the FLOPs with the parameters as area ("operations"),
        or per network ("accuracy"), or the parameters against the FLOPs ("parameters"),
        which needs no results. Returns the caption.

        Results of different protocols are never in one panel: there is one per
        protocol, as few as show all networks, of many networks the nine with the most;
        panels of one data set have the same axes. `protocol`: words that pick one
        protocol instead, such as "top-5 single crop", the most shared where several
        have them. A note says what is left out. Raises UsageError where no network has
        a result, or for another kind or file name.
        """
        from zoo.tables.plot import draw

        return draw(self.rows, Path(path), kind, protocol)

    def to_html(self, path: str | Path = "") -> str:
        """One page that needs nothing else: the table to sort and filter, the chart of
        one protocol or of parameters against operations, and for each network, at an
        address such as `report.html#vgg16`, its paper, departures, and its layers where
        the rows have them.

        Written to `path` too when it is given.
        """
        from zoo.tables.html_report import page

        html = page(self.rows, self.titles)
        if path:
            write(path, html)
        return html

    def sections(self, keep: str = "") -> list[Table]:
        """The table; the column `keep` stays on the narrowest terminal."""
        optional = [
            self.titles[name] for name in FIRST_TO_GO if name != keep and name in self.titles
        ]
        headers = list(self.titles.values())
        return [Table(headers, self.cells(), LEFT, wrap=self.titles["reported"], optional=optional)]


def comparison(
    rows: Iterable[Row], titles: Mapping[str, str], protocol_words: str = ""
) -> Comparison:
    """The table of some rows with these columns. With `protocol_words` of the rows that
    have a result of that protocol, with this result; a note names the others.

    Raises UsageError when no row has any.
    """
    rows = tuple(rows)
    if not protocol_words:
        return Comparison(tuple(replace(row, result=first(row.results)) for row in rows), titles)
    which, _ = choose(results(rows), protocol_words)
    own = {id(row): [r for r in row.results if protocol(r) == which] for row in rows}
    if missing := [row.name for row in rows if not own[id(row)]]:
        warn(f"left out, as their papers report no {which}: {some_of(missing)}")
    shown = [replace(row, result=own[id(row)][0]) for row in rows if own[id(row)]]
    return Comparison(tuple(shown), titles)
