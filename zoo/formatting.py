"""How figures, tables, names and papers are written as text. Standard library only."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.spec import Paper


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


def plain(headers: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    """A table with a column per header, aligned to the right but for the columns
    `left`.
    """
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    sides = ["<" if header in left else ">" for header in headers]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True)
        ).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, rows)])


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
