"""How figures, tables, names and papers are written as text, and how results are shown.
Standard library only.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.spec import Paper

READABLE = 24  # least width of a column whose text is wrapped


@dataclass(frozen=True)
class Table:
    """Rows of text under headers, for a terminal, a notebook or a page.

    The columns `left` are aligned to the left, all others to the right. Where there is
    too little room, the text of the column `wrap` is wrapped, and the columns
    `optional` are left out, the first one first. Nothing is ever cut off.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ()
    wrap: str = ""
    optional: Sequence[str] = ()
    gap: int = 2  # spaces between columns

    def fitted(self, width: int) -> tuple[Table, list[str]]:
        """As much of the table as a terminal of this width has room for, and the
        headers of the columns that are left out.
        """
        needed = {
            header: max(map(_width, (header, *column)))
            for header, *column in zip(self.headers, *self.rows, strict=True)
        }
        if self.wrap in needed:
            wrapped = needed[self.wrap]
            needed[self.wrap] = min(wrapped, READABLE)
        dropped: list[str] = []
        for header in self.optional:
            if _total(needed, 1) <= width:
                break
            del needed[header]
            dropped.append(header)
        gap = 2 if _total(needed, 2) <= width else 1
        if self.wrap in needed:
            needed[self.wrap] += max(0, width - _total(needed, gap))
        rows = []
        for row in self.rows:
            cells = dict(zip(self.headers, row, strict=True))
            lines = [
                textwrap.wrap(cells[header], size) if header == self.wrap else [cells[header]]
                for header, size in needed.items()
            ]
            rows += [list(line) for line in zip_longest(*lines, fillvalue="")]
        return replace(self, headers=list(needed), rows=rows, gap=gap), dropped

    def text(self) -> str:
        return plain(self.headers, self.rows, self.left, self.gap)

    def html(self) -> str:
        """A table that a notebook shows; indented text stays indented."""
        styles = []
        for header in self.headers:
            space = "normal" if header == self.wrap else "pre"
            side = "left" if header in self.left else "right"
            styles.append(f"text-align: {side}; white-space: {space}")

        def line(tag: str, cells: Sequence[str]) -> str:
            inner = "".join(
                f'<{tag} style="{style}">{escape(cell)}</{tag}>'
                for cell, style in zip(cells, styles, strict=True)
            )
            return f"<tr>{inner}</tr>"

        body = "\n".join(line("td", row) for row in self.rows)
        head = f"<thead>{line('th', self.headers)}</thead>"
        return f"<table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table>"


Section = Table | Mapping[str, str] | str  # a table, facts by their label, or lines of text


class Printable:
    """A result that people read: `print`, the interactive prompt, a notebook and the
    command line show its `sections`. On a terminal they are made to fit.
    """

    def sections(self) -> Sequence[Section]:
        raise NotImplementedError

    def __str__(self) -> str:
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if on_terminal else None
        return "\n\n".join(section_text(section, width) for section in self.sections())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return "\n".join(map(section_html, self.sections()))


def section_text(section: Section, width: int | None = None) -> str:
    """A section as lines of text, made to fit a terminal of this width."""
    if isinstance(section, str):
        return section
    if isinstance(section, Table):
        if width is None:
            return section.text()
        table, dropped = section.fitted(width)
        missing = f"\n({width} columns have no room for: {', '.join(dropped)})" if dropped else ""
        return table.text() + missing
    widest = max(map(len, section), default=0) + 2
    lines = []
    for label, value in section.items():
        shown = value.splitlines()
        if width is not None:
            room = max(READABLE, width - widest)
            shown = [
                part
                for line in shown
                for part in textwrap.wrap(
                    line, room, break_long_words=False, break_on_hyphens=False
                )
            ]
        first, *others = shown or [""]
        lines += [f"{label + ':':<{widest}}{first}", *(" " * widest + other for other in others)]
    return "\n".join(lines)


def section_html(section: Section) -> str:
    if isinstance(section, Table):
        return section.html()
    style = 'style="text-align: left; white-space: pre-wrap"'
    if isinstance(section, str):
        return f"<p {style}>{escape(section)}</p>"
    lines = (
        f"<tr><th {style}>{escape(label)}</th><td {style}>{escape(value)}</td></tr>"
        for label, value in section.items()
    )
    return "<table>\n{}\n</table>".format("\n".join(lines))


def figure(value: Any) -> str:
    """A number with thousands separators, a shape as 3x224x224, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)):
        return f"{value:,.12g}" if isinstance(value, float) else f"{value:,}"
    if isinstance(value, (tuple, list)):
        return (
            ", ".join(map(figure, value))
            if any(isinstance(part, (tuple, list)) for part in value)
            else "x".join(map(str, value))
        )
    return str(value)


def short(count: float) -> str:
    """A large number in three digits: 11.2 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:g}"


def plain(
    headers: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str], gap: int = 2
) -> str:
    """A table with a column per header, aligned to the right but for the columns
    `left`, with `gap` spaces between them.
    """
    widths = [max(map(_width, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for header, cell, width in zip(headers, cells, widths, strict=True):
            space = " " * (width - _width(cell))
            padded.append(cell + space if header in left else space + cell)
        return (" " * gap).join(padded).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, rows)])


def _width(text: str) -> int:
    """Columns of a terminal: characters of East Asian scripts take two, marks that
    combine none.
    """
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _total(widths: Mapping[str, int], gap: int) -> int:
    """The width of a table with columns of these widths."""
    return sum(widths.values()) + gap * (len(widths) - 1)


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    """The same as a Markdown table."""
    rules = [":---" if header in left else "---:" for header in headers]
    cells = [
        [cell.replace("|", "\\|").replace("\n", " ") for cell in line]
        for line in (headers, rules, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def separated(headers: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """The same as comma-separated values: numbers without separators, shapes as
    3x224x224, nothing for None.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(
        [figure(value) if isinstance(value, (tuple, list)) else value for value in row]
        for row in rows
    )
    return out.getvalue()


def some_of(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def as_arguments(values: Mapping[str, Any]) -> str:
    """As they are written in a call."""
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def mib(size: int) -> str:
    """Bytes in MiB = 2^20 bytes."""
    return f"{size / 2**20:,.2f}"


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key in which numbers count as numbers: resnet50 before resnet101."""
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name.lower())
    ]


def reference(paper: Paper) -> str:
    """A paper as one cites it, in Markdown, with a link for its DOI and one for its
    arXiv identifier.
    """
    where = [paper.venue, str(paper.year)]
    if paper.doi:
        where.append(f"[doi:{paper.doi}](https://doi.org/{paper.doi})")
    if paper.arxiv:
        where.append(f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})")
    return f"{paper.authors}. *{paper.title}*. {', '.join(where)}."
